"""What is not in the streams: the submitter's ledger, the workers' logs, what Claude was asked."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from agentflow.audit.evidence import Call, Calls, Submission
from agentflow.errors import UsageError
from agentflow.protocol import limits, subjects

MESSAGES: Final = "/v1/messages"
WITHIN: Final = 30.0
_DROPPED: Final = re.compile(rf"task ({limits.ID_PATTERN}): message (\d+-\d+) dropped")


class _Line(msgspec.Struct):
    id: str
    sequence: int | None = None
    acknowledged: bool = True
    state: str | None = None


class _Request(msgspec.Struct):
    path: str
    request_id: str
    status: int | None = None


class _Bought(msgspec.Struct):
    calls: list[str] = []


class _Stats(msgspec.Struct):
    requests: int
    log: list[_Request]


def read_ledger(lines: Iterable[str], name: str = "ledger") -> list[Submission]:
    """The submissions in a file: an id a line, or JSON objects with `id`.

    Other fields are `sequence`, `acknowledged`, `state`; more are ignored, so that results of
    `agentflow run` and the output of `submit --json` are ledgers too. Raises UsageError.
    """
    submissions = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if text.startswith("{"):
            try:
                told = msgspec.json.decode(text, type=_Line)
            except msgspec.DecodeError as error:
                raise UsageError(f"{name}: line {number} is no submission: {error}") from None
            submissions.append(Submission(told.id, told.sequence, told.acknowledged, told.state))
        elif subjects.is_id(text):
            submissions.append(Submission(text))
        else:
            raise UsageError(
                f"{name}: line {number} is neither an id nor a JSON object: {text[:60]!r}"
            )
    return submissions


def read_drops(lines: Iterable[str]) -> dict[str, str]:
    """Messages that a worker's log (as text or JSON) says were dropped, with their ids."""
    return {dropped[2]: dropped[1] for line in lines if (dropped := _DROPPED.search(line))}


def read_requests(data: bytes, name: str, told: bytes = b"") -> Calls:
    """The requests in an answer of the simulator's `/_fake/stats`, and those of batches in one of
    `/_fake/batches` (`told`). Raises UsageError.
    """
    try:
        stats = msgspec.json.decode(data, type=_Stats)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} is not what /_fake/stats answers: {error}") from None
    if any(sent.path.startswith(f"{MESSAGES}/batches") for sent in stats.log) and not told:
        stats.requests += 1  # what was bought in batches is not known
    calls = [Call(sent.request_id, sent.status) for sent in stats.log if sent.path == MESSAGES]
    if told:
        bought = msgspec.json.decode(told, type=_Bought).calls
        calls += [Call(name, 200) for name in bought]
    return Calls(calls, complete=len(stats.log) == stats.requests)


def ask_simulator(url: str) -> Calls:
    """The requests that a simulator was sent; blocks. Raises UsageError."""
    address = f"{url.rstrip('/')}/_fake/stats"
    if not address.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is not the URL of a simulator")
    try:
        with urllib.request.urlopen(address, timeout=WITHIN) as answer:
            stats = answer.read()
        batches = address.replace("/stats", "/batches")
        with urllib.request.urlopen(batches, timeout=WITHIN) as answer:
            return read_requests(stats, address, answer.read())
    except OSError as error:
        raise UsageError(f"the simulator at {url} does not answer: {error}") from None


def requests_file(path: str) -> Calls:
    """The requests in a file that holds what `/_fake/stats` answered. Raises UsageError."""
    try:
        return read_requests(Path(path).read_bytes(), path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
