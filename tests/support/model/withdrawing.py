"""Withdraw as steps between worlds: a message or a schedule is found, judged by the log, taken.

What is found may be gone by the time it is judged; whoever withdraws has a copy. The record and its
dead letter are one step: a client that dies between them leaves no dead letter behind, and the job
has the payload in its file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentflow.rules.withdrawal import Step
from tests.support.model import rules
from tests.support.model.world import CLIENT, FAILED, Entry, Other, World, end, remove

if TYPE_CHECKING:
    from tests.support.model.steps import Model, OtherStep


def found(world: World) -> Iterator[Other]:
    """Each message and each schedule: `seq` is the message (0: a schedule), `flag` its follows."""
    for message in world.tasks:
        yield Other("withdraw", message.id, message.follows)
    for _, follows in sorted(world.schedules):
        yield Other("withdraw", 0, follows)


def steps(model: Model, world: World, other: Other) -> Iterator[OtherStep]:
    """What comes next of one withdrawal."""
    if other.at == "withdraw fails":
        yield _fail(model, world, other)
        return
    if other.at == "withdraw removes":
        yield _remove(world, other)
        return
    for entry in model.readable(world):
        step = rules.withdraw(other.seq, other.flag, entry)
        failing = other._replace(at="withdraw fails", entry=entry)
        match step:
            case Step.REMOVE:
                # One that was delivered may be in a worker's hand: then its log must say so.
                waits = other._replace(at="withdraw removes")
                got = _delivered(world, other)
                yield "is to go", (failing if got else waits,), world
            case Step.FAIL:
                yield "is to fail", (failing,), world
            case Step.ASK:
                owned = any(
                    process.actor == entry.actor and process.message == entry.message
                    for process in world.processes
                )
                if owned:
                    yield "it runs", (), world
                yield "its owner is silent", (failing,), world
            case Step.KEEP:
                yield "its dead letter is kept", (), _taken(_buried(world), other)
            case Step.LEAVE:
                yield "left", (), world


def _delivered(world: World, other: Other) -> bool:
    return all(message.id != other.seq or message.seen for message in world.tasks)


def _remove(world: World, other: Other) -> OtherStep:
    """Delete the message, and look whether a worker got it in the last moment."""
    after = remove(world, other.seq)
    if not _delivered(world, other):
        return "removed", (), after._replace(removed=True)
    # Begun now, and its worker and we both dead, it is the sweep's: its message is lost.
    return (
        "removed, delivered",
        (other._replace(at="withdraw fails"),),
        after._replace(lost=True, removed=True),
    )


def _fail(model: Model, world: World, other: Other) -> OtherStep:
    """Write `failed` and its dead letter, fenced by what was read; refused, look again."""
    before = other.entry
    if end(world).seq != before.seq:
        return "refused", (other._replace(at="withdraw", entry=Entry()),), world
    message = before.message or other.seq
    record = Entry(
        world.top + 1, FAILED, message, CLIENT, before.seq, before.failures, before.asked
    )
    after = model.append(world, record, other.flag)
    return "withdrawn", (), _taken(_buried(after), other)


def _buried(world: World) -> World:
    """With a new dead letter, of a new sequence: who read the old one deletes nothing."""
    others = tuple(
        o._replace(flag=0) if o.at in ("manual retry", "delete") else o for o in world.others
    )
    return world._replace(dead=True, others=others)


def _taken(world: World, other: Other) -> World:
    """Without the message or the schedule."""
    if other.seq:
        return remove(world, other.seq)
    left = frozenset(item for item in world.schedules if item[1] != other.flag)
    return world._replace(schedules=left)
