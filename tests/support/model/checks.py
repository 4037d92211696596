"""The rules as methods, one each, and the properties that hold in every world.

A broken variant overrides a method here or a step of `steps.Model`.
"""

from __future__ import annotations

from agentflow.rules.claim import LOOKS, Act
from tests.support.model import rules
from tests.support.model.world import (
    CANCELLED,
    FAILED,
    RUNNING,
    SUCCEEDED,
    SWEEP,
    TERMINAL,
    Entry,
    Kind,
    Message,
    Other,
    Process,
    Scenario,
    Violation,
    World,
    end,
    put,
    remove,
    resume,
)


class Checks:
    """What each write, each ack and each world must satisfy."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._recovered: set[tuple[object, ...]] = set()

    # ------------------------------------------------------------ the rules, one method each

    def decide(
        self,
        message: int,
        follows: int,
        delivered: int,
        old: bool,
        entry: Entry,
        asked: int = 0,
        sourced: bool = False,
    ) -> Act:
        return rules.decide(message, follows, delivered, old, entry, asked, sourced)

    def is_own(self, process: Process, entry: Entry) -> bool:
        """Whether the end of the log is what this process tried to write."""
        return (
            entry.actor == process.actor
            and entry.follows == process.seq
            and entry.message == process.message
            and entry.state == process.sent
        )

    def accepts(self, world: World, process: Process) -> bool:
        """Whether the server stores a write: the fence."""
        return end(world).seq == process.seq

    def refused(self, process: Process) -> Process | None:
        """What a process is at after a write that was refused or not answered."""
        return process._replace(at="read" if process.at in ("claim", "fail") else "outcome")

    def superseded(self, process: Process) -> Process | None:
        """What a run is at when the log has gone on without it: neither ack nor nak."""
        return None

    def schedule(self, seq: int) -> tuple[int, int]:
        """The subject of a schedule, and what its message follows."""
        return (seq, self.continuation(seq))

    def continuation(self, follows: int) -> int:
        """Agentflow-Follows of a message that a schedule or a manual retry brings."""
        return follows

    def after(self, process: Process, entry: Entry) -> Process | None:
        """What comes after a write that is stored."""
        process = process._replace(seq=entry.seq, sent="")
        match entry.state:
            case "running":
                return process._replace(at="work", failures=entry.failures)
            case "failed":
                return process._replace(at="dead")
            case "retrying" | "scheduled":
                return process._replace(at="schedule")
            case "queued":
                return None
            case _:
                return process._replace(at="ack")

    # ------------------------------------------------------------ properties

    def append(self, world: World, entry: Entry, names: int, sourced: bool = False) -> World:
        """Store `entry`, written for a message that follows `names`; it must be allowed."""
        before = end(world)
        if before.state in (SUCCEEDED, CANCELLED):
            raise Violation(Kind.AFTER_THE_END, (before, entry))
        if before.state == FAILED and names != before.seq:
            raise Violation(Kind.NOT_A_CONTINUATION, (before, entry))
        another = before.seq and entry.message != before.message
        if another and before.state != FAILED and entry.actor >= 0 and not sourced:
            raise Violation(Kind.HIJACKED, (before, entry))
        if not rules.may_follow(before.state or None, entry.state):
            raise Violation(Kind.LIFECYCLE, (before, entry))
        held = before.held if entry.asked is None else before.held | 1 << entry.asked
        entry = entry._replace(first=before.first or entry.message, held=held)
        log = (*world.log, entry)[-self.scenario.tail :]
        return world._replace(top=entry.seq, log=log)

    def check(self, world: World) -> None:
        """The properties of a world; raises Violation."""
        runs = [process.seq for process in world.processes if process.at == "work"]
        if len(runs) != len(set(runs)):
            raise Violation(Kind.TWO_RUNS, runs)
        key = (
            end(world), world.tasks, world.schedules, world.due, world.dead, world.lost,
            world.expired,
        )  # fmt: skip
        if key not in self._recovered:
            self._recovered.add(key)
            self.recover(world, oldest_first=True)
            if len(world.tasks) + len(world.schedules) + len(world.due) > 1:
                self.recover(world, oldest_first=False)

    def check_ack(self, world: World, process: Process) -> None:
        """No message is acked while the log still needs it (by the real table)."""
        entry = end(world)
        act = rules.decide(
            process.message, process.follows, LOOKS, process.old, entry, process.asked,
            process.sourced,
        )  # fmt: skip
        if act == Act.DISOWN:
            # A corrected retry may have come between the look and the ack.
            if not entry.held & 1 << process.asked:
                raise Violation(Kind.DROPPED, (process, entry))
            return
        queued = (m.follows for m in world.tasks if m.sourced or entry.state == FAILED)
        named = {*(f for _, f in world.schedules), *world.due, *queued}
        continued = self.continuation(entry.seq) in named or world.lost
        if not (
            act == Act.ACK
            or (act == Act.REPUBLISH_SCHEDULE and continued)
            or (act == Act.REPUBLISH_DEAD and (world.dead or continued))
        ):
            raise Violation(Kind.ACKED_TOO_EARLY, (process, entry))

    def check_disowned(self, world: World, process: Process) -> None:
        """Only a message that is not of the log is failed under another id."""
        if process.message == end(world).first or process.follows:
            raise Violation(Kind.DISOWNED, (process, end(world)))

    def recover(self, world: World, *, oldest_first: bool) -> None:
        """Every process died; new workers take what is stored until nothing is left."""
        for _ in range(40):
            follows = [*(f for _, f in world.schedules), *world.due]
            if follows and (oldest_first or not world.tasks):
                world = world._replace(schedules=frozenset(), due=())
                for names in sorted(follows):
                    world = resume(world, names)
            elif world.tasks:
                world = self._recover_one(world, world.tasks[0 if oldest_first else -1])
            elif world.lost and end(world).seq and end(world).state not in TERMINAL:
                world = self.sweep_acts(world, Other("sweep", end(world).seq))
            else:
                break
        else:
            raise Violation(Kind.ENDLESS, end(world))
        may_be_empty = (world.expired or world.removed) and not world.log
        if end(world).state not in TERMINAL and not may_be_empty:
            raise Violation(Kind.LOST, end(world))
        if end(world).state == FAILED and not world.dead and not world.lost:
            raise Violation(Kind.NO_DEAD_LETTER, end(world))

    def _recover_one(self, world: World, message: Message) -> World:
        entry = end(world)
        act = self.decide(
            message.id, message.follows, 2, message.old, entry, message.asked, message.sourced
        )
        if act == Act.ASK:
            act = rules.after_silence(message.id, 2, entry, self.scenario.max_attempts)
        match act:
            case Act.REPUBLISH_SCHEDULE:
                world = world._replace(schedules=put(world.schedules, self.schedule(entry.seq)))
            case Act.REPUBLISH_DEAD:
                world = world._replace(dead=True)
            case Act.CLAIM | Act.EXPIRE | Act.REJECT | Act.LOST:
                for state in (RUNNING, SUCCEEDED) if act == Act.CLAIM else (FAILED,):
                    new = Entry(
                        world.top + 1, state, message.id, 0, end(world).seq, asked=message.asked
                    )
                    world = self.append(world, new, message.follows, message.sourced)
                world = world._replace(dead=world.dead or act != Act.CLAIM)
        return remove(world, message.id)

    def sweep_acts(self, world: World, other: Other) -> World:
        """Write `failed`, fenced by what the sweep has read."""
        entry = end(world)
        if entry.seq != other.seq:
            return world
        if not world.lost:
            raise Violation(Kind.HEALTHY_TASK_FAILED, entry)
        new = Entry(world.top + 1, FAILED, entry.message, SWEEP, entry.seq, asked=entry.asked)
        return self.append(world, new, 0)
