"""The filter language: words that must all hold, each of which may be turned round by `!`.

state:running,retrying   a field has one of these values (a `*` stands for anything)
label:team=research      a label; `label:team` where it is there at all
cost>0.1  age>10m  attempt>=2  tokens>1000  wait>5s  run<2s
timeout                  a regular expression, found in id, labels, error, note or model
"two words"              one expression with blanks
!worker:w-031            none of these
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from agentflow.protocol.record import State
from agentflow.views.row import Row, decode_labels

Test = Callable[[Row, float], bool]
"""Whether a row at a time is wanted."""


@dataclass(frozen=True, slots=True)
class Query:
    """A filter that can be applied; `text` is what was typed."""

    text: str = ""
    tests: tuple[Test, ...] = ()
    timed: bool = False
    """Whether the passing of time alone changes what it finds."""

    def wants(self, row: Row, now: float) -> bool:
        """Whether a row passes."""
        for test in self.tests:  # noqa: SIM110 -- a generator costs more than most tests
            if not test(row, now):
                return False
        return True


class QueryError(ValueError):
    """What was typed is no filter; the message says what to type."""


ALL: Final = Query()


def age(row: Row, now: float) -> float:
    """Seconds since a task was submitted, or last heard of where that is unknown."""
    return now - (row.submitted or row.updated) / 1000


def wait(row: Row, now: float) -> float | None:
    """Seconds between submission and start, or until now for one that waits."""
    if row.submitted is None:
        return None
    if row.started is not None:
        return (row.started - row.submitted) / 1000
    return now - row.submitted / 1000 if not row.finished else None


def run(row: Row, now: float) -> float | None:
    """Seconds of the last attempt, so far where it still runs."""
    if row.started is None:
        return None
    if row.state == State.RUNNING:
        return max(0.0, now - row.started / 1000)
    return ((row.ended or row.updated) - row.started) / 1000


_TEXT: Final[dict[str, Callable[[Row], str]]] = {
    "id": lambda row: row.id,
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
_TIMED: Final = frozenset({"age", "wait", "run"})
KNOWN_LABELS: Final = 10_000
"""Texts of labels that a filter remembers; tasks may all have different ones."""
FIELDS: Final = (*_TEXT, "label", *_NUMBER)

_SIGNS: Final = re.compile(r'["\[\]*?]')
_BARE: Final = re.compile(r"[\w.?=@/+-]*")
_FIELD: Final = re.compile(r"([a-z]+):(.*)", re.S)
_COMPARE: Final = re.compile(r"([a-z]+)(>=|<=|>|<|=)\$?(\d+(?:\.\d+)?)(ms|s|m|h|d|k|M)?")
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "k": 1e3, "M": 1e6}
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
    tests, timed = [], False
    for word in _words(text):
        test, moves = _term(word)
        tests.append(test)
        timed = timed or moves
    return Query(text, tuple(tests), timed)


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
    if (compared := _COMPARE.fullmatch(word)) is not None and compared[1] in _NUMBER:
        return _comparison(compared), compared[1] in _TIMED
    if (named := _FIELD.fullmatch(word)) is not None:
        name, values = named[1], _values(named[2])
        if name == "label":
            return _labelled(values), False
        if name in _TEXT:
            return _valued(_TEXT[name], values), False
        if name not in _NUMBER and name not in ("http", "https"):
            raise QueryError(f"there is no field {name}; there are {', '.join(FIELDS)}")
    return _searched(_unquoted(word)), False


def _values(text: str) -> list[str]:
    bare = _unquoted(text)
    return text.split(",") if bare == text else [bare]


def _unquoted(word: str) -> str:
    if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
        return word[1:-1]
    return word


def _comparison(compared: re.Match[str]) -> Test:
    value = float(compared[3]) * _UNITS.get(compared[4] or "", 1)
    read, compare = _NUMBER[compared[1]], _OPERATIONS[compared[2]]

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
        pattern = re.compile(word, re.IGNORECASE)
    except re.error as error:
        raise QueryError(f"{word} is no regular expression: {error}") from None

    def test(row: Row, now: float) -> bool:
        return any(
            text and pattern.search(text)
            for text in (row.id, row.labels, row.error, row.note, row.model, row.reason)
        )

    return test
