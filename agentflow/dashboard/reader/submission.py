"""The form for a new task: its fields, what is wrong with them, and what they would cost. Pure.

A value is what was typed, as text. It is judged by what judges a task message (protocol/task.py),
field by field, so that each mistake stands beside the field that has it; then once as a whole.
Nothing here reads a file or a clock: the app gives what `file` names, and the time.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import count, money, span
from agentflow.dashboard.store.totals import SLOT, slots
from agentflow.errors import InvalidTask, UsageError
from agentflow.protocol import subjects, task
from agentflow.protocol.subjects import Priority
from agentflow.rules import presence

MOST_CHOICES: Final = 20


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form. A `line` with `choices` takes other values too, a `choice` none."""

    name: str
    title: str
    kind: Literal["line", "text", "choice"] = "line"
    choices: tuple[str, ...] = ()
    value: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was typed, judged: `problems` by field, the command lines that do the same, and the
    arguments of `flow.submit` (those of a form with problems are not to be used).

    `nats` is that of the `nats` CLI alone, "" for what a file has: it would be too long.
    """

    problems: dict[str, str] = field(default_factory=dict)
    command: str = ""
    nats: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the task can be submitted."""
        return not self.problems


def fields(scene: Scene, queue: str = "") -> list[Field]:
    """The fields, with what is known as choices; `queue` is the one that was looked at."""
    store = scene.store
    queues = store.queues() or ["default"]
    chosen = queue or ("default" if "default" in queues else queues[0])
    kinds = {kind for actor in store.workers() for kind in actor.beat.kinds}
    models = {account[0] for _, account, _ in store.totals.booked()} - {""}
    return [
        Field("prompt", "Prompt", "text", hint="what is asked"),
        Field("file", "File", hint="or a file that has the prompt"),
        Field("kind", "Kind", choices=_some(kinds | {"claude"}), value="claude"),
        Field("queue", "Queue", choices=_some(queues), value=chosen),
        Field("priority", "Priority", "choice", tuple(Priority), Priority.NORMAL),
        Field("model", "Model", choices=_some(models), hint="the worker's own"),
        Field("system", "System", hint="the system prompt"),
        Field("max_tokens", "Max tokens", hint="the longest answer"),
        Field("params", "Params", hint='JSON, such as {"temperature": 0}'),
        Field("labels", "Labels", hint="team=research run=7"),
        Field("id", "Id", hint="made for it; a second one of an id is not run"),
        Field("start", "Not before", hint="10m, 20:51, or 2026-11-27 20:51"),
    ]


def _some(names: set[str] | Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(names)[:MOST_CHOICES])


# Judging.


class _Wrong(ValueError):
    """A field cannot be read; the message says how it should look."""


def check(
    values: Mapping[str, str], now: float, *, content: str | None = None, unreadable: str = ""
) -> Checked:
    """Judge what was typed. `content` is what the file has, `unreadable` why it has none."""
    typed = {name: text for name, text in values.items() if text.strip()}
    problems: dict[str, str] = {}
    arguments: dict[str, Any] = {}
    if "file" in typed:
        if "prompt" in typed:
            problems["file"] = "give the prompt or a file, not both"
        elif unreadable or content is None:
            problems["file"] = unreadable or "it has not been read"
        else:
            arguments["prompt"] = content
    for name, read in _READ.items():
        if name in typed:
            try:
                arguments[_ARGUMENT.get(name, name)] = read(typed[name], now)
            except (_Wrong, UsageError) as error:
                problems[name] = _sentence(error)
    for name in ("queue", "priority"):
        arguments.setdefault(name, _DEFAULT[name])
    body = {name: value for name, value in arguments.items() if name in task.FIELDS}
    if not problems:
        problems.update(_judged(body, arguments, "file" if "file" in typed else "prompt"))
    nats = _with_nats(body, arguments) if not problems and "file" not in typed else ""
    return Checked(problems, _command(typed, body), nats, arguments)


def _judged(body: dict[str, Any], arguments: dict[str, Any], source: str) -> dict[str, str]:
    """What is wrong: each field by itself, then the task as the worker will see it."""
    problems: dict[str, str] = {}
    for name, value in body.items():
        try:
            task.decode_body(msgspec.json.encode({"prompt": "x", name: value}))
        except UnicodeError:
            problems[_FIELD.get(name, name)] = "it has characters that are none"
        except UsageError as error:
            problems[_FIELD.get(name, name)] = _sentence(error)
    if problems:
        return problems
    try:
        parsed = task.parse_body(msgspec.json.encode(body), {})
        task.build(parsed, {}, arguments["queue"], Priority(arguments["priority"]), "")
    except InvalidTask as error:
        return {"start" if "not_before" in str(error) else source: _sentence(error)}
    return {}


def _sentence(error: Exception) -> str:
    return str(error).partition(" - at `$.")[0]


def _text(text: str, now: float) -> str:
    return text


def _stripped(text: str, now: float) -> str:
    return text.strip()


def _id(text: str, now: float) -> str:
    return subjects.check_id(text.strip())


def _queue(text: str, now: float) -> str:
    return subjects.check_queue(text.strip())


def _priority(text: str, now: float) -> str:
    try:
        return Priority(text.strip())
    except ValueError:
        raise _Wrong(f"one of {', '.join(Priority)}") from None


def _whole(text: str, now: float) -> int:
    text = text.strip().replace(",", "").replace("_", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _Wrong("a whole number, 1 or more")
    return int(text)


def _params(text: str, now: float) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Wrong(f"a JSON object: {error}") from None


def _labels(text: str, now: float) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError:
        raise _Wrong("a quotation mark is open") from None
    labels = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise _Wrong(f"{word} is not of the form name=value")
        labels[name] = value
    return labels


_SPAN: Final = re.compile(r"(?:in\s+)?(\d+(?:\.\d+)?)\s*([smhd])")
_TIME: Final = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str, now: float) -> datetime | None:
    """The instant that was typed, with a time zone: a time of day lies ahead. None: it is none."""
    text = text.strip()
    here = datetime.fromtimestamp(now, UTC).astimezone()
    if (span_match := _SPAN.fullmatch(text)) is not None:
        return here + timedelta(seconds=float(span_match[1]) * _UNITS[span_match[2]])
    try:
        if (time := _TIME.fullmatch(text)) is not None:
            hour, minute, second = int(time[1]), int(time[2]), int(time[3] or 0)
            at = here.replace(hour=hour, minute=minute, second=second, microsecond=0)
            return at if at > here else at + timedelta(days=1)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


def _start(text: str, now: float) -> datetime:
    at = moment(text, now)
    if at is None:
        raise _Wrong("a duration such as 10m, a time such as 20:51, or an ISO date")
    return at


_READ: Final[dict[str, Callable[[str, float], Any]]] = {
    "prompt": _text,
    "kind": _stripped,
    "queue": _queue,
    "priority": _priority,
    "model": _stripped,
    "system": _text,
    "max_tokens": _whole,
    "params": _params,
    "labels": _labels,
    "id": _id,
    "start": _start,
}
_ARGUMENT: Final = {"start": "not_before"}
_FIELD: Final = {"not_before": "start"}
_DEFAULT: Final = {"queue": "default", "priority": str(Priority.NORMAL)}


# The command line.

_OPTIONS: Final = ("id", "kind", "model", "system", "max_tokens")


def _command(typed: Mapping[str, str], body: Mapping[str, Any]) -> str:
    words = ["agentflow", "submit"]
    for name in ("queue", "priority"):
        value = typed.get(name, "").strip()
        if value and value != _DEFAULT[name]:
            words += [f"--{name}", value]
    for name in _OPTIONS:
        value = str(body.get(name, ""))
        if value and (name, value) != ("kind", "claude"):
            words += [f"--{name.replace('_', '-')}", value]
    for name, value in (body.get("params") or {}).items():
        words += ["--param", f"{name}={_parameter(value)}"]
    for name, value in (body.get("labels") or {}).items():
        words += ["--label", f"{name}={value}"]
    if (start := typed.get("start", "").strip()) and (at := body.get("not_before")):
        duration = _SPAN.fullmatch(start)
        words += ["--in", duration[1] + duration[2]] if duration else ["--at", at.isoformat()]
    prompt = body.get("prompt", "")
    if prompt.lstrip()[:1] == "{":
        words.append("--text")  # else it would be read as a task
    if "file" in typed:
        words += ["--file", typed["file"].strip()]
    elif prompt:
        words += ["--", prompt] if prompt[0] == "-" else [prompt]
    return shlex.join(words)


def _with_nats(body: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    payload = msgspec.json.encode(body).decode()
    # The CLI fills in templates.
    more = ["--no-templates"] if "{{" in payload else []
    subject = subjects.task(arguments["queue"], arguments["priority"])
    return shlex.join(["nats", "pub", subject, payload, *more])


def _parameter(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    if not isinstance(value, str):
        return text
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value  # what is no JSON is taken as text
    return text


# What it would mean.


def estimate(scene: Scene, values: Mapping[str, str]) -> list[str]:
    """What such a task costs, when it starts, and what stands in its way: sentences."""
    queue = values.get("queue", "").strip() or _DEFAULT["queue"]
    kind = values.get("kind", "").strip() or "claude"
    sentences = [_costs(scene, kind, values.get("model", "").strip()), _waits(scene, queue)]
    for gate in scene.store.gates:
        if (gate.what, gate.name) in (("queue", queue), ("kind", kind.replace(".", "_"))):
            sentences.append(f"{gate.what} {gate.name} is paused: it waits until that is resumed")
    living = (
        actor.beat
        for actor in scene.store.workers()
        if not actor.lost(scene.store.heard_by(scene.now))
    )
    serving = [beat for beat in living if presence.serves(beat, queue)]
    if not serving:
        sentences.append(f"no worker serves queue {queue}: agentflow worker --queues {queue}")
    elif not any(presence.knows(beat, kind) for beat in serving):
        sentences.append(f"no worker of queue {queue} knows kind {kind}")
    return sentences


def _costs(scene: Scene, kind: str, model: str) -> str:
    tasks = cost = 0
    for _, (of_model, _, of_kind), spend in scene.store.totals.booked():
        if of_kind == kind and model in ("", of_model):
            tasks += spend.tasks - spend.unknown
            cost += spend.cost
    of = f"kind {kind}" + (f" with {model}" if model else "")
    if not tasks:
        return f"what a task of {of} costs is not known yet"
    return f"about {money(cost // tasks)}, as {count(tasks)} tasks of {of} cost on average"


def _waits(scene: Scene, queue: str) -> str:
    before = scene.store.waiting(queue)
    if before <= 0:
        return f"nothing waits in queue {queue}"
    text = f"{count(before)} wait in queue {queue} before it"
    per_second = drained(scene, queue)
    return f"{text}, about {span(before / per_second)}" if per_second else text


def drained(scene: Scene, queue: str, window: int = 300) -> float:
    """Tasks of a queue that end a second, over the last `window` seconds."""
    ends = slots(scene.store.totals.queue_ends.get(queue), int(scene.now), window // SLOT)
    return sum(ends) / window


__all__ = ["Checked", "Field", "check", "drained", "estimate", "fields", "moment"]
