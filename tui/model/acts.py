"""What can be done to the system from here: one table, and what each act would mean.

An act has targets (tasks, queues, workers or dead letters), a preview that says how many they are,
what it costs and the command line that does the same, and a client call (feed/acting.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from agentflow.protocol.record import State
from tui.model.amounts import money
from tui.model.effects import Choose, Confirm, Effect, Quit, Travel
from tui.model.lines import Line, line
from tui.model.scene import Scene

if TYPE_CHECKING:
    from tui.model.dashboard import Dashboard

TYPE_ABOVE: Final = 50
"""Above so many targets the number must be typed."""
NAMED: Final = 6
"""Targets that a preview names one by one."""

Of = Literal["task", "letter", "queue", "worker"]


@dataclass(frozen=True, slots=True)
class Act:
    """An act: `verb` as in its command line, `of` what it is done to, `effect` what it means.

    `possible` says whether it can be done to one target.
    """

    name: str
    verb: str
    of: Of
    effect: str
    command: Callable[[Sequence[str]], str]
    possible: Callable[[Scene, str], bool] = lambda scene, target: True
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a confirmation shows. `type_number`: the count must be typed."""

    title: str
    lines: tuple[Line, ...]
    command: str
    count: int
    danger: bool = True

    @property
    def type_number(self) -> bool:
        """Whether the number of targets must be typed to go on."""
        return self.count > TYPE_ABOVE


def _ids(verb: str, *, yes: bool = True) -> Callable[[Sequence[str]], str]:
    def command(targets: Sequence[str]) -> str:
        more = " --yes" if yes and len(targets) > 1 else ""
        return f"agentflow {verb} {shlex.join(targets)}{more}"

    return command


def _each(verb: str) -> Callable[[Sequence[str]], str]:
    return lambda targets: "; ".join(f"agentflow {verb} {shlex.quote(name)}" for name in targets)


def _unended(scene: Scene, target: str) -> bool:
    row = scene.store.rows.get(target)
    return row is not None and row.state not in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def _failed(scene: Scene, target: str) -> bool:
    row = scene.store.rows.get(target)
    return row is None or row.state == State.FAILED


ACTS: Final[dict[str, Act]] = {
    act.name: act
    for act in (
        Act(
            "cancel",
            "cancel",
            "task",
            "what waits never starts; of what runs the answer is hung up on, its usage kept",
            _ids("cancel"),
            _unended,
        ),
        Act(
            "retry",
            "retry",
            "task",
            "back into its queue, the failures counted anew; the history is kept",
            _ids("retry"),
            _failed,
            "each is a new call, and paid as one",
        ),
        Act(
            "drop",
            "drop",
            "letter",
            "its payload is deleted: the task stays failed and can be retried no more",
            _ids("dead drop"),
        ),
        Act(
            "pause",
            "pause",
            "queue",
            "no task of it starts any more; what runs goes on; submissions wait",
            _each("pause"),
        ),
        Act("resume", "resume", "queue", "its tasks start again", _each("resume")),
        Act(
            "open",
            "resume",
            "queue",
            "what was closed is open again",
            _each("resume --pool"),
        ),
        Act(
            "drain",
            "drain",
            "worker",
            "takes no more tasks, finishes what it runs or hands it back, and exits",
            _each("drain"),
        ),
    )
}


def begin(scene: Scene, name: str, targets: Sequence[str]) -> tuple[list[Effect], str]:
    """The effects that begin an act, and a sentence where it cannot be begun."""
    act = ACTS[name]
    if not targets:
        return [], f"nothing here to {act.verb}"
    possible = [target for target in targets if act.possible(scene, target)]
    if not possible:
        return [], f"{_counted(len(targets), act.of)} cannot be {_past(act)}: {_why_not(act)}"
    return [Confirm(name, tuple(possible))], ""


def preview(scene: Scene, name: str, targets: Sequence[str]) -> Preview:
    """What the confirmation of an act says."""
    act = ACTS[name]
    lines = [_about("what", _what(scene, act, targets)), _about("effect", act.effect)]
    if act.of in ("task", "letter"):
        lines.append(_about("cost", _cost(scene, act, targets)))
    if act.warning:
        lines.append(line(("warning  ", "dim"), (act.warning, "warn")))
    return Preview(
        title=f"{act.verb} {_counted(len(targets), act.of)}",
        lines=tuple(lines),
        command=act.command(targets),
        count=len(targets),
        danger=name not in ("resume", "open"),
    )


def _about(name: str, text: str) -> Line:
    return line((f"{name:<9}", "dim"), text)


def _what(scene: Scene, act: Act, targets: Sequence[str]) -> str:
    if act.of == "worker":
        names = [scene.store.name_of(target) for target in targets]
    else:
        names = list(targets)
    shown = ", ".join(names[:NAMED]) + (
        f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    )
    states: dict[str, int] = {}
    if act.of == "task":
        for target in targets:
            row = scene.store.rows.get(target)
            state = row.state if row is not None else "unknown"
            states[state] = states.get(state, 0) + 1
    parts = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
    return f"{shown} ({parts})" if parts else shown


def _cost(scene: Scene, act: Act, targets: Sequence[str]) -> str:
    rows = [scene.store.rows[target] for target in targets if target in scene.store.rows]
    spent = sum(row.cost or 0 for row in rows)
    if act.name == "retry":
        return f"about {money(_typical(scene) * len(targets))} (a task here costs that on average)"
    return f"{money(spent)} spent so far; nothing more"


def _typical(scene: Scene) -> int:
    whole = scene.store.totals.spent()
    return whole.cost // whole.tasks if whole.tasks else 0


def _counted(number: int, noun: str) -> str:
    noun = {"letter": "dead letter"}.get(noun, noun)
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _past(act: Act) -> str:
    return {"cancel": "cancelled", "retry": "retried", "drop": "dropped"}.get(act.verb, act.verb)


def _why_not(act: Act) -> str:
    return {
        "cancel": "it has ended",
        "retry": "only a failed task can be",
    }.get(act.name, "not now")


# What is typed.

_TIME: Final = re.compile(r"(?:(\d{4})-(\d\d)-(\d\d)[ T])?(\d{1,2}):(\d\d)(?::(\d\d))?(Z?)")
_AGO: Final = re.compile(r"-(\d+(?:\.\d+)?)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def instant(text: str, now: float) -> float | None:
    """The instant that was typed, in seconds since 1970: a time of day lies in the past."""
    text = text.strip()
    if (ago := _AGO.fullmatch(text)) is not None:
        return now - float(ago[1]) * _UNITS[ago[2]]
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, utc = found.groups()
    zone = UTC if utc else None
    base = datetime.fromtimestamp(now, UTC).astimezone(zone)
    try:
        if year:
            base = base.replace(year=int(year), month=int(month), day=int(day))
        at = base.replace(
            hour=int(hour), minute=int(minute), second=int(second or 0), microsecond=0
        )
    except ValueError:
        return None
    if not year and at.timestamp() > now:
        at -= timedelta(days=1)
    return at.timestamp()


def typed(dash: Dashboard, scene: Scene, text: str) -> list[Effect]:
    """A command that was typed after `:`."""
    word, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    name = _WORDS.get(word, word)
    if name in ("q", "quit", "exit"):
        return [Quit()]
    if name in dash.views and name != "task":
        dash.open(name)
        if rest:
            return dash.do("filter", rest, scene.now)
        return []
    if name == "task" and rest:
        return dash.do("open_task", rest, scene.now)
    if name == "t" and rest:
        at = instant(rest, scene.now)
        if at is not None:
            return [Travel(to=at)]
    elif name == "live":
        return dash.do("live", "", scene.now)
    elif name in ACTS and rest and dash.acts_off(scene.now) is None:
        effects, problem = begin(scene, name, rest.split())
        if problem:
            dash.tell(problem, scene.now, "warn")
        return effects
    dash.tell(f"there is no command {word}: ? lists what there is", scene.now, "warn")
    return []


_WORDS: Final = {"o": "overview", "w": "workers", "e": "events", "c": "costs", "d": "dead"}

__all__ = ["ACTS", "Act", "Choose", "Preview", "begin", "instant", "preview", "typed"]
