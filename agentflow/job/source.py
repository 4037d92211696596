"""The input of a job: any file, checked whole before anything is submitted, then read again.

A million lines are never a million objects: the file is read once to check it, and again as its
tasks are submitted. A line without an id gets one made of the hash of its effective request and the
number of its occurrence among those lines, so that the same file submitted again is the same tasks,
wherever a line has moved to.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from agentflow.attachments import Folder
from agentflow.errors import InvalidInput, InvalidTask, UsageError
from agentflow.handlers.claude.request import DEFAULT_MAX_TOKENS
from agentflow.job import checks
from agentflow.job.defaults import Defaults
from agentflow.job.formats.entry import Entry
from agentflow.job.formats.kinds import BY_NAME, Format, format_of
from agentflow.job.formats.opening import InputFile
from agentflow.job.formats.template import Template
from agentflow.job.served import lack
from agentflow.protocol import limits
from agentflow.protocol.jobs import Input
from agentflow.protocol.task import TaskBody
from agentflow.rules.routes.prices import Prices

HASH_CHARS: Final = 24
LARGE: Final = limits.MIB
_MADE: Final = HASH_CHARS + 1
_ID_MOST: Final = 64
_TEMPLATE_MOST: Final = 16_384
"""Characters of a template that the job's key may hold."""
_PROBLEMS: Final = 10_000
"""Bad lines after which no more are looked for: it is the wrong file."""


class Item(msgspec.Struct, frozen=True):
    """One line that is a task. `request` is the hash of what Claude will be asked.

    `carried` is what goes from the input to the result as it is: columns, and what was asked for.
    """

    line: int
    id: str
    request: str
    body: TaskBody
    carried: dict[str, Any] = {}
    custom_id: str | None = None
    large: bool = False
    """Whether it is so long that not many of its kind should be in memory at once."""
    take: int = 1
    """How often it is asked anew: an answer that is there ends its task, so another take is another
    task."""

    @property
    def task_id(self) -> str:
        """The id of its task; `id` is that of the line."""
        if self.take == 1:
            return self.id
        end = f"-r{self.take}"
        return self.id[: _ID_MOST - len(end)] + end

    def forget(self) -> None:
        """What is asked is needed no more; its answer may be hours away."""
        if self.large:
            self.body.prompt = self.body.system = self.body.params = None


class Load(msgspec.Struct):
    """How much is asked of a model; `bytes` are those of the texts, nearly."""

    tasks: int = 0
    bytes: int = 0
    most_output: int = 0
    """Tokens that all answers together may have."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How to read an input: its format where it does not say, and what its lines leave open."""

    format: str | None = None
    template: Template | None = None
    defaults: Defaults = Defaults()
    carry: tuple[str, ...] = ()
    """Fields and columns that stand beside each result although the prompt holds them."""
    own: Mapping[str, checks.Check] = {}
    """What one's own handlers say of a task, by kind; some may replace ours."""
    simulate: bool = False
    round: str = ""
    """A word at the end of the ids made here, so that they are asked anew."""
    labelled: bool = False
    """Whether its tasks get the label of a job."""
    prices: Prices | None = None
    """Where there is a limit on the cost: each line must have a price."""
    served: frozenset[str] | None = None
    """The kinds that somebody will run, where that is known."""
    change: Callable[[TaskBody], TaskBody] | None = None
    """What comes before all that a line says."""

    def complete(self, body: TaskBody) -> TaskBody:
        """The task of a line with what stands elsewhere."""
        if self.change is not None:
            body = self.change(body)
        self.defaults.fill(body)
        return body


class Source:
    """The tasks of an input. Iterating reads it again. Raises UsageError where it has changed."""

    def __init__(
        self, name: str, stdin: BinaryIO, reading: Reading, opened: InputFile | None = None
    ) -> None:
        reading.defaults.check()
        self.file = opened or InputFile(name, stdin)
        self.name = self.file.name
        self._reading = reading
        self.format: Format = (
            BY_NAME[reading.format]
            if reading.format
            else format_of(self.file, name, template=reading.template is not None)
        )
        self._files = Folder(Path(name).parent if name != "-" else Path())
        self.notes: Counter[str] = Counter()
        self.kinds: dict[str, int] = {}
        """Each kind, and the first line that names it."""
        self.models: dict[str | None, Load] = {}
        """What each model is asked, None for the worker's default."""
        self.named = False
        """Whether a line gives its task an id."""
        self._identified = False
        self._timed = False
        self._columns: dict[str, None] = {}
        self._digest = hashlib.sha256()
        self._total = 0
        self._repeated: frozenset[str] = frozenset()
        self._check()

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[Item]:
        again: Counter[str] = Counter()
        for row in self._rows():
            assert row.body is not None
            row.body.params = self._files.attached(row.body.kind, row.body.params)
            body = self._reading.complete(row.body)
            request = request_hash(body, simulate=self._reading.simulate)
            task_id = body.id
            if task_id is None:
                number = 1
                if request in self._repeated:
                    again[request] += 1
                    number = again[request]
                task_id = f"{request}-{number}"
                if self._reading.round:
                    task_id += f"-{self._reading.round}"
            yield Item(
                row.line,
                task_id,
                request,
                body,
                beside(row, self._reading.carry),
                row.custom_id,
                size_of(body) > LARGE,
            )

    @property
    def digest(self) -> str:
        """Hash of all that is asked, in order, and of the ids."""
        return self._digest.hexdigest()

    @property
    def origin(self) -> Input | None:
        """Where it lies, None where no result has anything beside it that its task does not say."""
        template = self._reading.template
        if not (self.carried or self._identified):
            return None
        path, size, changed = self.file.seen
        if template is not None and len(template.text) > _TEMPLATE_MOST:
            path = ""
        return Input(
            path=path,
            size=size,
            changed=changed,
            format=self.format.name,
            template=None if template is None else template.text,
            carry=list(self._reading.carry),
        )

    @property
    def taken_for(self) -> str:
        """A sentence about what the input was taken for."""
        stored = f", {self.file.stored}" if self.file.stored else ""
        count = f"{self._total:,} task" + ("s" if self._total != 1 else "")
        text = f"{self.name}: {count}, read as {self.format.title}{stored}"
        if self.format.name == "txt" and self.file.head.lstrip().startswith(b'{"'):
            text += " (they look like JSON: --format jsonl)"
        if self.notes:
            parts = [f"{name} ({count:,}x)" for name, count in sorted(self.notes.items())]
            text += f"; without a counterpart, so left out: {', '.join(parts)}"
        return text

    @property
    def carried(self) -> list[str]:
        """What may stand beside a result, in the input's order of columns."""
        template, carry = self._reading.template, self._reading.carry
        used = template.columns if template is not None else frozenset()
        names = [name for name in self._columns if name not in used or name in carry]
        return list(dict.fromkeys([*names, *carry]))

    def refuse_overdue(self) -> None:
        """Raise InvalidInput for tasks that can never start any more."""
        if not self._timed:
            return
        late = [(item.line, why) for item in self if (why := checks.overdue(item.body))]
        if late:
            raise InvalidInput(self.name, late, unit=self.format.unit)

    def _rows(self) -> Iterator[Entry]:
        with self.file.open() as stream:
            yield from self.format.read(stream, self.name, self._reading.template)

    def _check(self) -> None:
        """Read it once. Raises InvalidInput with every bad line, UsageError for a useless file."""
        problems: list[tuple[int, str]] = []
        ids = _Ids()
        for row in self._rows():
            try:
                if row.columns:
                    msgspec.json.encode(row.columns)  # as its result will be
                self._check_row(row, ids)
            except InvalidTask as error:
                problems.append((row.line, str(error)))
            except _NO_JSON as error:
                problems.append((row.line, f"this cannot be kept as JSON: {error}"))
            if len(problems) >= _PROBLEMS:
                break
        if problems:
            raise InvalidInput(self.name, problems, unit=self.format.unit)
        if not self._total:
            raise UsageError(f"{self.name} holds no tasks")
        there = [*self._columns, *(name for name in _OWN if name not in self._columns)]
        unknown = [name for name in self._reading.carry if name not in there]
        if unknown:
            names = ", ".join(there)
            raise UsageError(f"--with: there is no {unknown[0]!r}; there are {names}")
        self._repeated = ids.repeated()

    def _check_row(self, row: Entry, ids: _Ids) -> None:
        if row.problem is not None:
            raise InvalidTask(row.problem)
        body, reading = row.body, self._reading
        assert body is not None
        body.params = self._files.attached(body.kind, body.params)
        size = size_of(body)
        if row.foreign_model is not None:
            if reading.defaults.model is None:
                raise InvalidTask(
                    f"body.model {row.foreign_model!r} is no model of Claude; "
                    "--model says which one is asked instead"
                )
            self.notes[f"body.model {row.foreign_model}"] += 1
        body = reading.complete(body)
        request = request_hash(body, simulate=reading.simulate)
        checks.check(body, size, own=reading.own, prices=reading.prices)
        if body.id is not None and reading.round:
            raise InvalidTask(
                f"--fresh makes new ids, and the id {body.id} that this names is asked only once; "
                "leave it out, or give another"
            )
        self.named |= body.id is not None
        self._identified |= row.custom_id is not None
        if reading.labelled and body.labels:
            checks.check_room(body.labels)
        self._digest.update(f"{request} {body.id}\n".encode())
        kind = body.kind or "claude"
        if reading.served is not None and (why := lack(kind, reading.served)):
            raise InvalidTask(why)
        ids.add(body.id, request, row.line)
        self._timed = self._timed or body.deadline is not None
        self.kinds.setdefault(kind, row.line)
        if kind == "claude":
            params = body.params or {}
            load = self.models.setdefault(body.model or params.get("model"), Load())
            load.tasks += 1
            load.bytes += size
            load.most_output += body.max_tokens or params.get("max_tokens") or DEFAULT_MAX_TOKENS
        if row.notes:
            self.notes.update(row.notes)
        if row.columns.keys() - self._columns.keys():
            self._columns.update(dict.fromkeys(row.columns))
        self._total += 1


_NO_JSON: Final = (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError)
"""Half a character, a number without an end, and the like."""
_OWN: Final = ("prompt", "system", "params", "labels")
"""Fields of a task that may be carried to its result."""


def beside(row: Entry, carry: Sequence[str]) -> dict[str, Any]:
    """What goes from the input to the result: other columns, and what `carry` names."""
    carried = {name: row.columns[name] for name in row.columns if name not in row.used}
    for name in carry:
        if name in row.columns:
            carried[name] = row.columns[name]
        elif name in _OWN and (value := getattr(row.body, name)) is not None:
            carried[name] = value
    return carried


class _Ids:
    """The ids of an input, each once. A made one is kept as its hash and a number."""

    def __init__(self) -> None:
        self._named: dict[str, int] = {}
        self._made: dict[bytes, int] = {}

    def add(self, name: str | None, request: str, line: int) -> None:
        """Take a task's id. Raises InvalidTask where another has it."""
        if name is None:
            key = bytes.fromhex(request)
            number = self._made.get(key, 0) + 1
            if self._named and (first := self._named.get(f"{request}-{number}")):
                name = f"{request}-{number}"
                raise InvalidTask(f"the id {name!r} stands in line {first} already")
            self._made[key] = number
            return
        if name in self._named:
            raise InvalidTask(f"the id {name!r} stands in line {self._named[name]} already")
        if self._is_made(name):
            raise InvalidTask(f"the id {name!r} is that of an earlier line, which names none")
        self._named[name] = line

    def repeated(self) -> frozenset[str]:
        """The requests of more than one task without an id."""
        return frozenset(key.hex() for key, number in self._made.items() if number > 1)

    def _is_made(self, name: str) -> bool:
        if len(name) <= _MADE or name[HASH_CHARS] != "-" or not name[_MADE:].isdecimal():
            return False
        try:
            key = bytes.fromhex(name[:HASH_CHARS])
        except ValueError:
            return False
        return 0 < int(name[_MADE:]) <= self._made.get(key, 0)


def request_hash(body: TaskBody, *, simulate: bool) -> str:
    """Hash of what decides the answer; a simulated answer is never taken for a real one."""
    parts = {
        "kind": body.kind or "claude",
        "prompt": body.prompt,
        "model": body.model,
        "system": body.system,
        "max_tokens": body.max_tokens,
        "params": body.params,
        "simulate": simulate or None,
    }
    if body.schema is not None:
        # Only then: what asks for none has the hash that it always had.
        parts |= {"schema": body.schema, "repair": body.repair}
    data = msgspec.json.encode(parts, order="deterministic")
    return hashlib.sha256(data).hexdigest()[:HASH_CHARS]


def size_of(body: TaskBody) -> int:
    """Bytes of a task's texts, nearly."""
    size = len(body.prompt or "") + len(body.system or "")
    if body.schema is not None:
        size += len(msgspec.json.encode(body.schema))
    return size + (len(msgspec.json.encode(body.params)) if body.params else 0)
