"""The query language: words that must all hold, each of which may be turned round by `!`.

state:running,retrying   a field has one of these values (a `*` stands for anything)
label:team=research      a label; `label:team` where it is there at all
cost>0.1  age>10m  attempt>=2  tokens>1000  wait>5s  run<2s
timeout                  a pattern, found in id, title, labels, error, note, model or reason
"two words"              one pattern with blanks
!worker:w-031            none of these
state:failed or cost>1   one side or the other; `or` binds less than the words beside it

Dashboard, `list`, `cancel`, `retry`, `dead` and the API read it alike. What is not understood is
an error: a filter that finds nothing for a mistyped word looks like good news.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from agentflow.protocol.record import PARKED, State
from agentflow.protocol.subjects import Priority
from agentflow.views import pattern
from agentflow.views.row import UNREADABLE, Row, decode_labels, waited

Test = Callable[[Row, float], bool]
"""Whether a row at a time is wanted."""


@dataclass(frozen=True, slots=True)
class Query:
    """A filter that can be applied; `text` is what was typed."""

    text: str = ""
    tests: tuple[Test, ...] = ()
    timed: bool = False
    """Whether the passing of time alone changes what it finds."""
    fields: frozenset[str] = frozenset()
    """Fields that it names."""
    others: tuple[tuple[Test, ...], ...] = ()
    """What may hold instead of `tests`: the other sides of `or`."""

    def wants(self, row: Row, now: float) -> bool:
        """Whether a row passes."""
        for test in self.tests:
            if not test(row, now):
                break
        else:
            return True
        return any(all(test(row, now) for test in side) for side in self.others)


class QueryError(ValueError):
    """What was typed is no filter; the message says what to type."""


ALL: Final = Query()


def age(row: Row, now: float) -> float:
    """Seconds since a task was submitted, or last heard of where that is unknown."""
    return now - (row.submitted or row.updated) / 1000


def wait(row: Row, now: float) -> float | None:
    """Seconds that it waited for its last attempt, or waits now, since it might have started.

    None before that instant, and where it is not known: of an attempt that followed a lost worker.
    """
    if row.state in PARKED and row.resume_at is not None:
        return now - row.resume_at / 1000 if row.resume_at <= now * 1000 else None
    if row.started is not None:
        ms = waited(row)
        return None if ms is None else ms / 1000
    if row.submitted is None or row.finished:
        return None
    return now - row.submitted / 1000


def run(row: Row, now: float) -> float | None:
    """Seconds of the last attempt, so far where it still runs."""
    if row.started is None:
        return None
    if row.state == State.RUNNING:
        return max(0.0, now - row.started / 1000)
    return ((row.ended or row.updated) - row.started) / 1000


_TEXT: Final[dict[str, Callable[[Row], str]]] = {
    "id": lambda row: row.id,
    "title": lambda row: row.title,
    "state": lambda row: row.state,
    "queue": lambda row: row.queue,
    "kind": lambda row: row.kind,
    "model": lambda row: row.model or "",
    "worker": lambda row: row.actor,
    "priority": lambda row: row.priority,
    "reason": lambda row: row.reason or "",
    "error": lambda row: row.error or "",
    "stop": lambda row: row.stop_reason or "",
    "group": lambda row: row.fingerprint,
}
_NUMBER: Final[dict[str, Callable[[Row, float], float | None]]] = {
    "cost": lambda row, now: None if row.cost is None else row.cost / 1_000_000,
    "age": age,
    "wait": wait,
    "run": run,
    "attempt": lambda row, now: row.attempt,
    "failures": lambda row, now: row.failures,
    "tokens": lambda row, now: row.usage.total,
    "out": lambda row, now: row.usage.output_tokens,
}
OR: Final = ("or", "OR", "|")
_TIMED: Final = frozenset({"age", "wait", "run"})
KNOWN_LABELS: Final = 10_000
"""Texts of labels that a filter remembers; tasks may all have different ones."""
DETAILS: Final = frozenset({"error", "group"})
"""Fields that only who reads the records knows; a master's index has none of them."""
FIELDS: Final = (*_TEXT, "label", *_NUMBER)

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "state": (*(str(state) for state in State), UNREADABLE),
    "priority": tuple(str(priority) for priority in Priority),
}
"""Fields of which all values are known: another one is a slip."""

_SIGNS: Final = re.compile(r'["\[\]*?]')
_BARE: Final = re.compile(r"[\w.?=@/+-]*")
_FIELD: Final = re.compile(r"([a-z]+):(.*)", re.S)
_NAMED: Final = re.compile(r"(?:^|[\s!])([a-z]+)(?=:|>|<|=)")
_COMPARE: Final = re.compile(r"([a-z]+)(>=|<=|>|<|=)(.*)", re.S)
_AMOUNT: Final = re.compile(r"\$?(\d+(?:\.\d+)?)([a-zA-Z]*)")
_SPANS: Final = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_COUNTS: Final = {"": 1, "k": 1e3, "M": 1e6}
_OPERATIONS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    "=": lambda a, b: a == b,
}


def parse(text: str) -> Query:
    """The filter that was typed. Raises QueryError."""
    text = text.strip()
    if not text:
        return ALL
    sides: list[list[Test]] = [[]]
    timed = False
    for word in _words(text):
        if word in OR:
            sides.append([])
            continue
        test, moves = _term(word)
        sides[-1].append(test)
        timed = timed or moves
    if not all(sides):
        raise QueryError('`or` stands between two sides; the word itself is "or" in quotes')
    first, *others = map(tuple, sides)
    named = frozenset(_NAMED.findall(text))
    return Query(text, first, timed, named & frozenset(FIELDS), tuple(others))


def term(field: str, value: str) -> str:
    """The term for one value of a field; for a sign of the language stands what fits any."""
    value = _SIGNS.sub("?", value)
    return f"{field}:{value}" if _BARE.fullmatch(value) else f'{field}:"{value}"'


def _words(text: str) -> list[str]:
    """The words; quotation marks hold one together where they begin it or a value in it."""
    words: list[str] = []
    word = quote = ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char.isspace():
            words.append(word)
            word = ""
            continue
        elif char in "\"'" and (not word or word[-1] in "!:="):
            quote = char
        word += char
    if quote:
        raise QueryError("a quotation mark is open")
    return [each for each in (*words, word) if each]


def _term(word: str) -> tuple[Test, bool]:
    if word.startswith("!") and len(word) > 1:
        test, timed = _term(word[1:])
        return (lambda row, now: not test(row, now)), timed
    if (compared := _COMPARE.fullmatch(word)) is not None:
        name, sign, value = compared.groups()
        if name in _NUMBER:
            return _comparison(name, sign, value), name in _TIMED
        if sign != "=":
            raise QueryError(f"{_unknown(name, _NUMBER)}; in quotes it is looked for as text")
    if (named := _FIELD.fullmatch(word)) is not None:
        name, values = named[1], _values(named[2])
        if name == "label":
            return _labelled(values), False
        if name in _TEXT:
            _check_values(name, values)
            return _valued(_TEXT[name], values), False
        if name in _NUMBER:
            raise QueryError(f"{name} is a number: {name}>{named[2] or 1}, or with < = >= <=")
        if name not in ("http", "https"):
            raise QueryError(_unknown(name, FIELDS))
    return _searched(_unquoted(word)), False


def _unknown(name: str, fields: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, fields, 1)
    meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(fields)}"
    return f"there is no field {name}{meant}"


def _check_values(name: str, values: list[str]) -> None:
    known = VALUES.get(name)
    if known is None:
        return
    for value in values:
        if not any(fnmatchcase(each, f"{value}*") for each in known):
            near = difflib.get_close_matches(value, known, 1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise QueryError(f"there is no {name} {value}; {meant}")


def _values(text: str) -> list[str]:
    bare = _unquoted(text)
    return text.split(",") if bare == text else [bare]


def _unquoted(word: str) -> str:
    if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
        return word[1:-1]
    return word


def _comparison(name: str, sign: str, text: str) -> Test:
    units = _SPANS if name in _TIMED else _COUNTS
    amount = _AMOUNT.fullmatch(_unquoted(text))
    if amount is None or amount[2] not in units:
        example = "10m (ms s m h d)" if name in _TIMED else "0.5" if name == "cost" else "10k (k M)"
        raise QueryError(f"{name}{sign}{text} cannot be read: write it like {name}{sign}{example}")
    value = float(amount[1]) * units[amount[2]]
    read, compare = _NUMBER[name], _OPERATIONS[sign]

    def test(row: Row, now: float) -> bool:
        number = read(row, now)
        return number is not None and compare(number, value)

    return test


def _valued(read: Callable[[Row], str], values: list[str]) -> Test:
    if any("*" in value or "?" in value for value in values):
        return lambda row, now: any(fnmatchcase(read(row), value) for value in values)
    wanted = frozenset(values)
    begins = tuple(value for value in values if value)

    def test(row: Row, now: float) -> bool:
        value = read(row)
        return value in wanted or value.startswith(begins)

    return test


def _labelled(values: list[str]) -> Test:
    pairs = [
        (name, equals, _unquoted(value))
        for name, equals, value in (each.partition("=") for each in values)
    ]
    # Thousands of tasks have the same labels, so their text is read once.
    known: dict[str, bool] = {"": False}

    def test(row: Row, now: float) -> bool:
        wanted = known.get(row.labels)
        if wanted is None:
            labels = decode_labels(row.labels)
            wanted = any(
                name in labels and (not equals or fnmatchcase(labels[name], value))
                for name, equals, value in pairs
            )
            if len(known) < KNOWN_LABELS:
                known[row.labels] = wanted
        return wanted

    return test


def _searched(word: str) -> Test:
    try:
        found = pattern.compile(word).found
    except pattern.PatternError as error:
        raise QueryError(f"{word} is no pattern: {error}") from None

    def test(row: Row, now: float) -> bool:
        texts = (row.id, row.title, row.labels, row.error, row.note, row.model, row.reason)
        return found("\n".join([text for text in texts if text]))

    return test
