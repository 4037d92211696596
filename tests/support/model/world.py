"""One state of everything the model knows about a task, and what may still happen to it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import NamedTuple

from agentflow.protocol import record
from agentflow.protocol.record import State

TERMINAL = frozenset(str(state) for state in record.TERMINAL)
PARKED = frozenset(str(state) for state in record.PARKED)
QUEUED, RUNNING, SCHEDULED, RETRYING, SUCCEEDED, FAILED, CANCELLED = (
    str(state)
    for state in (
        State.QUEUED, State.RUNNING, State.SCHEDULED, State.RETRYING,
        State.SUCCEEDED, State.FAILED, State.CANCELLED,
    )
)  # fmt: skip
CLIENT, SWEEP = -1, -2  # actors that are no workers


class Kind(StrEnum):
    """What a violation breaks."""

    AFTER_THE_END = "a write after succeeded or cancelled"
    NOT_A_CONTINUATION = "failed was followed by a message that does not name it"
    LIFECYCLE = "a transition that the lifecycle does not have"
    ACKED_TOO_EARLY = "a message was acked while the log needs it"
    LOST = "nothing is left that could end the log"
    ENDLESS = "recovery does not come to an end"
    NO_DEAD_LETTER = "failed without a dead letter"
    TWO_RUNS = "two runs on one claim"
    DROPPED = "another request was dropped without a word"
    DISOWNED = "a message of the log was taken for another request"
    HIJACKED = "no schedule brought the message that took over a log that had not failed"
    HEALTHY_TASK_FAILED = "the sweep failed a task that was well"


class Violation(Exception):
    """A property does not hold."""

    def __init__(self, kind: Kind, detail: object) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Entry(NamedTuple):
    """A record in the log; 0 and "" stand for an empty log."""

    seq: int = 0
    state: str = ""
    message: int = 0
    actor: int = 0
    follows: int = 0
    failures: int = 0
    asked: int | None = 0  # its request; None: the writer did not know it
    held: int = 0  # a bit for each request that the log has had
    first: int = 0  # the message that began the log


class Message(NamedTuple):
    """A message in AGENTFLOW_TASKS; `old` when it was stored more than 6 days ago, `asked` which
    request it is, `sourced` where a schedule brought it."""

    id: int
    follows: int = 0
    seen: bool = False
    old: bool = False
    asked: int = 0
    sourced: bool = False


class Process(NamedTuple):
    """A worker at one delivery. `seq` is what its next write expects, -1 before it has read;
    `sent` the state it tried to write last."""

    at: str
    actor: int
    message: int
    follows: int
    delivered: int
    old: bool
    seq: int
    sent: str = ""
    failures: int = 0
    asked: int = 0
    sourced: bool = False


class Other(NamedTuple):
    """What is under way outside the workers: a late write, a manual retry, a purge, a sweep."""

    at: str
    seq: int = 0
    flag: int = 0
    entry: Entry = Entry()


class World(NamedTuple):
    """One state of everything. `top` is the stream's last sequence, `log` the end of the log."""

    top: int
    log: tuple[Entry, ...]
    tasks: tuple[Message, ...]
    next_id: int
    schedules: frozenset[tuple[int, int]]  # the end of its subject, and Agentflow-Follows
    due: tuple[int, ...]
    processes: tuple[Process, ...]
    others: tuple[Other, ...]
    dead: bool
    lost: bool
    expired: bool
    budget: tuple[int, ...]
    removed: bool = False  # a message was withdrawn that nobody had got: its log may stay empty


class B(IntEnum):
    """What a scenario may spend."""

    DELIVER = 0
    MANY = 1  # deliveries that are the 101st
    DUPLICATE = 2
    CANCEL = 3
    MANUAL = 4
    PARK = 5
    FAIL = 6
    HANDBACK = 7
    PROGRESS = 8
    TWICE = 9
    UNANSWERED = 10
    EXPIRE = 11
    LOSE = 12
    SWEEP = 13
    REUSE = 14  # another request is submitted under the id
    CORRECT = 15  # manual retries that ask something else
    FORGE = 16  # messages of a hostile submitter, which say that they continue the log
    WITHDRAW = 17  # messages and schedules that somebody takes back


class Scenario(NamedTuple):
    """What may happen, how often; `tail` records can be read, the older ones by stale reads."""

    name: str
    spend: Mapping[B, int]
    tail: int = 1
    max_attempts: int = 3

    @property
    def budget(self) -> tuple[int, ...]:
        return tuple(self.spend.get(what, 0) for what in B)


NOTHING = Entry()


def end(world: World) -> Entry:
    return world.log[-1] if world.log else NOTHING


def pay(world: World, what: B) -> World:
    budget = tuple(have - (i == what) for i, have in enumerate(world.budget))
    return world._replace(budget=budget)


def put(schedules: frozenset[tuple[int, int]], item: tuple[int, int]) -> frozenset[tuple[int, int]]:
    """A schedule replaces the one of its subject."""
    return frozenset({other for other in schedules if other[0] != item[0]} | {item})


def publish(world: World, follows: int, asked: int = 0, *, sourced: bool = False) -> World:
    message = Message(world.next_id, follows, asked=asked, sourced=sourced)
    return world._replace(tasks=(*world.tasks, message), next_id=world.next_id + 1)


def resume(world: World, follows: int) -> World:
    """A schedule's message, of the request that the log had when it was parked."""
    entry = end(world)
    asked = (entry.asked or 0) if entry.seq == follows else 0
    return publish(world, follows, asked, sourced=True)


def remove(world: World, message: int) -> World:
    return world._replace(tasks=tuple(m for m in world.tasks if m.id != message))
