"""The protocol holds for one task in every interleaving, and each of its rules is needed.

The search is in tests/support/model.py. Here stand the scenarios it is given, and the broken
variants: each takes one rule away and must be caught, which shows that the search looks where it
matters.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentflow.rules.claim import Act
from tests.support.model.scenarios import SCENARIOS
from tests.support.model.search import search
from tests.support.model.steps import Model, OtherStep, ProcessStep, Step
from tests.support.model.world import (
    CANCELLED,
    FAILED,
    RETRYING,
    SCHEDULED,
    SUCCEEDED,
    B,
    Entry,
    Kind,
    Other,
    Process,
    Scenario,
    World,
    end,
    pay,
    publish,
    put,
    remove,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.name))
def test_the_rules_hold_in_every_interleaving(scenario: Scenario) -> None:
    found = search(Model(scenario))

    assert found.kind is None, found.told
    assert found.complete
    print(f"{scenario.name}: {found.worlds:,} worlds")


class OneScheduleSubject(Model):
    """Schedules of a task share a subject: a late worker replaces the newer one."""

    def schedule(self, seq: int) -> tuple[int, int]:
        return (0, seq)


class OriginalClaimsParked(Model):
    """A redelivered original claims the log it parked itself."""

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
        act = super().decide(message, follows, delivered, old, entry, asked, sourced)
        return Act.CLAIM if act == Act.REPUBLISH_SCHEDULE else act


class AckAfterRefusal(Model):
    """A refused run acks its message."""

    def superseded(self, process: Process) -> Process | None:
        return process._replace(at="ack")


class NoFollows(Model):
    """Continuations do not name what they follow, so any new message may claim what waits."""

    def continuation(self, follows: int) -> int:
        return 0

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
        if entry.state in (SCHEDULED, RETRYING, FAILED) and message != entry.message:
            return Act.CLAIM
        return super().decide(message, follows, delivered, old, entry, asked, sourced)


class BelievesWhoeverSaysSo(Model):
    """A message continues what it names, and what is behind that, whoever has stored it."""

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
        if follows >= entry.seq and entry.state not in (SUCCEEDED, CANCELLED):
            return Act.CLAIM
        return super().decide(message, follows, delivered, old, entry, asked, sourced)


class BelievesWhatIsAhead(BelievesWhoeverSaysSo):
    """Only the last record has to be named by a schedule; what is above is taken for expired."""

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
        if follows == entry.seq:
            return Model.decide(self, message, follows, delivered, old, entry, asked, sourced)
        return super().decide(message, follows, delivered, old, entry, asked, sourced)


class DropsWhatIsAhead(Model):
    """A retry by hand of a failure that an old leader does not show is dropped at once."""

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
        act = super().decide(message, follows, delivered, old, entry, asked, sourced)
        return Act.ACK if act == Act.AGAIN else act


class DropsEveryDuplicate(Model):
    """A second message with a known id is dropped, whatever it asks."""

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
        act = super().decide(message, follows, delivered, old, entry, asked, sourced)
        return Act.ACK if act == Act.DISOWN else act


class DisownsByRequestAlone(Model):
    """The message that began a log is another's, once a corrected retry asks something else."""

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
        act = super().decide(message, follows, delivered, old, entry, asked, sourced)
        other = entry.asked is not None and entry.asked != asked and not follows
        return Act.DISOWN if act == Act.ACK and other and message != entry.message else act


class DisownsContinuations(Model):
    """A continuation is compared too, although it may have been overtaken by a corrected one."""

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
        act = super().decide(message, follows, delivered, old, entry, asked, sourced)
        other = entry.asked is not None and entry.asked != asked and follows
        return Act.DISOWN if act == Act.ACK and other and message != entry.message else act


class AckBeforeResult(Model):
    """The worker acks first and writes the result then."""

    def after(self, process: Process, entry: Entry) -> Process | None:
        after = super().after(process, entry)
        return after._replace(at="ack first") if after and after.at == "work" else after

    def _process(self, world: World, process: Process) -> Iterator[ProcessStep]:
        if process.at == "ack first":
            yield "", process._replace(at="work"), remove(world, process.message)
        yield from super()._process(world, process)


class ScheduleBeforeRecord(Model):
    """A run publishes its schedule, named by its claim, and then writes `retrying`."""

    def _process(self, world: World, process: Process) -> Iterator[ProcessStep]:
        if process.at == "work" and world.budget[B.PARK]:
            after = pay(world, B.PARK)
            after = after._replace(schedules=put(world.schedules, self.schedule(process.seq)))
            yield "schedule", process._replace(at="park"), after
        elif process.at == "park":
            for label, after_write, after in self._write(world, process, RETRYING, None):
                acks = after_write and after_write._replace(at="ack")
                yield label, acks if after_write and after_write.at == "schedule" else None, after
        else:
            yield from super()._process(world, process)


class NeverReads(Model):
    """After a refusal the worker takes the sequence out of the server's answer and sends again."""

    def accepts(self, world: World, process: Process) -> bool:
        return super().accepts(world, process) or bool(process.sent)

    def refused(self, process: Process) -> Process | None:
        return process


class TakeOverWithoutFence(Model):
    """Who hears nothing from the owner writes without naming what it has read."""

    def accepts(self, world: World, process: Process) -> bool:
        return super().accepts(world, process) or process.at == "take over"

    def _process(self, world: World, process: Process) -> Iterator[ProcessStep]:
        if process.at == "take over":
            yield from self._write(world, process, "running", None)
        for label, after, world_after in super()._process(world, process):
            if process.at == "ask" and after is not None and after.at == "claim":
                after = after._replace(at="take over")
            yield label, after, world_after


class RefusalIsOwn(Model):
    """What is in the log is taken for one's own by actor and sequence alone."""

    def is_own(self, process: Process, entry: Entry) -> bool:
        return entry.actor == process.actor and entry.follows == process.seq


class OwnOfAnotherState(Model):
    """The state of one's own record is not compared with what was sent."""

    def is_own(self, process: Process, entry: Entry) -> bool:
        return super().is_own(process._replace(sent=entry.state), entry)


class AckBeforeDeadLetter(Model):
    """The message of a failed task is acked before its dead letter is stored."""

    def after(self, process: Process, entry: Entry) -> Process | None:
        after = super().after(process, entry)
        return after._replace(at="ack") if after and after.at == "dead" else after


class DeletesAnyDeadLetter(Model):
    """A manual retry deletes the dead letter by its subject, not by its sequence."""

    def _other(self, world: World, other: Other) -> Iterator[OtherStep]:
        yield from super()._other(world, other._replace(flag=1) if other.at == "delete" else other)


class ReadsLogBeforeDeadLetter(Model):
    """A manual retry reads the log first, and then deletes a dead letter of a later failure."""

    def manual_retry(self, world: World) -> Iterator[Step]:
        if end(world).state == FAILED:
            other = Other("manual retry", end(world).seq)
            yield "log is read", world._replace(others=(*world.others, other))

    def _manual_retry(self, world: World, other: Other) -> Iterator[OtherStep]:
        if world.dead:
            yield "manual retry", (Other("delete", 0, 1),), publish(world, other.seq)


class SweepRepublishes(Model):
    """The sweep puts a lost task's message into the queue again."""

    def sweep_acts(self, world: World, other: Other) -> World:
        return publish(world, 0)


class SweepAsksOnlyTheSchedule(Model):
    """The sweep does not wait for the parker's message to be gone; it even looks twice."""

    def sweep(self, world: World, other: Other) -> Iterator[OtherStep]:
        waits = world.due or any(named == other.seq for named, _ in world.schedules)
        if other.at == "sweep parked":
            yield "parked", (other._replace(at="sweep schedule"),), world
        elif other.at == "sweep passed" and waits:
            yield "sweep finds it well", (), world
        else:
            yield from super().sweep(world, other)


class SweepIgnoresDueTasks(Model):
    """The sweep does not wait for what was due to have left the queue."""

    def sweep(self, world: World, other: Other) -> Iterator[OtherStep]:
        for label, others, after in super().sweep(world, other):
            yield (
                label,
                tuple(o._replace(at="sweep") if o.at == "sweep due" else o for o in others),
                after,
            )


class WithdrawsWithoutFence(Model):
    """Who withdraws writes `failed` whatever has happened since it looked."""

    def withdraw(self, world: World, other: Other) -> Iterator[OtherStep]:
        if other.at == "withdraw fails":
            other = other._replace(entry=end(world))
        yield from super().withdraw(world, other)


class WithdrawsWithoutDeadLetter(Model):
    """The payload of what was withdrawn is thrown away."""

    def withdraw(self, world: World, other: Other) -> Iterator[OtherStep]:
        for label, others, after in super().withdraw(world, other):
            yield label, others, after._replace(dead=world.dead)


class DeletesWhatWasDelivered(Model):
    """A message that a worker may hold is deleted first, and its log is left empty."""

    def withdraw(self, world: World, other: Other) -> Iterator[OtherStep]:
        for label, others, after in super().withdraw(world, other):
            if other.at == "withdraw" and not end(world).seq and others:
                yield label, (), remove(after, other.seq)
            else:
                yield label, others, after


D, P, F = B.DELIVER, B.PARK, B.FAIL
VARIANTS = [
    (OneScheduleSubject, Kind.LOST, {D: 4, P: 2}),
    (OriginalClaimsParked, Kind.ACKED_TOO_EARLY, {D: 3, P: 1}),
    (AckAfterRefusal, Kind.ACKED_TOO_EARLY, {D: 3}),
    (NoFollows, Kind.NOT_A_CONTINUATION, {D: 2, F: 1, B.DUPLICATE: 1}),
    (AckBeforeResult, Kind.LOST, {D: 1}),
    (ScheduleBeforeRecord, Kind.ACKED_TOO_EARLY, {D: 3, P: 1}),
    (NeverReads, Kind.HIJACKED, {D: 2, B.DUPLICATE: 1}),
    (TakeOverWithoutFence, Kind.AFTER_THE_END, {D: 2}),
    (RefusalIsOwn, Kind.TWO_RUNS, {D: 2, B.DUPLICATE: 1}),
    (OwnOfAnotherState, Kind.NOT_A_CONTINUATION, {D: 2, F: 1, B.UNANSWERED: 1}),
    (AckBeforeDeadLetter, Kind.ACKED_TOO_EARLY, {D: 1, F: 1}),
    (DeletesAnyDeadLetter, Kind.NO_DEAD_LETTER, {D: 2, F: 2, B.MANUAL: 1}),
    (ReadsLogBeforeDeadLetter, Kind.NO_DEAD_LETTER, {D: 2, F: 2, B.MANUAL: 2}),
    (BelievesWhoeverSaysSo, Kind.HIJACKED, {D: 2, B.FORGE: 1}),
    (BelievesWhatIsAhead, Kind.HIJACKED, {D: 2, B.FORGE: 1, P: 1}),
    (DropsWhatIsAhead, Kind.ACKED_TOO_EARLY, {D: 2, F: 1, B.MANUAL: 1}),
    (DropsEveryDuplicate, Kind.DROPPED, {D: 3, B.REUSE: 1}),
    (DisownsByRequestAlone, Kind.DISOWNED, {D: 3, F: 1, B.CORRECT: 1}),
    (DisownsContinuations, Kind.DISOWNED, {D: 3, F: 1, B.MANUAL: 1, B.CORRECT: 1}),
    (WithdrawsWithoutFence, Kind.AFTER_THE_END, {D: 2, B.WITHDRAW: 1}),
    (WithdrawsWithoutDeadLetter, Kind.NO_DEAD_LETTER, {D: 1, P: 1, B.WITHDRAW: 1}),
    (DeletesWhatWasDelivered, Kind.LOST, {D: 1, B.WITHDRAW: 1}),
    (SweepRepublishes, Kind.ENDLESS, {D: 1, B.LOSE: 1, B.SWEEP: 1}),
    (SweepAsksOnlyTheSchedule, Kind.HEALTHY_TASK_FAILED, {D: 2, P: 1, B.SWEEP: 1}),
    (SweepIgnoresDueTasks, Kind.HEALTHY_TASK_FAILED, {D: 1, P: 1, B.SWEEP: 1}),
]


@pytest.mark.parametrize(
    ("variant", "kind", "spend"), VARIANTS, ids=[variant.__name__ for variant, _, _ in VARIANTS]
)
def test_a_broken_rule_is_caught(variant: type[Model], kind: Kind, spend: dict[B, int]) -> None:
    tail = 3 if variant is DropsWhatIsAhead else 1  # it takes a stale read
    scenario = Scenario(variant.__name__, spend, tail=tail)
    found = search(variant(scenario))

    assert found.kind == kind, found.told
    print(f"{variant.__name__}: {found.kind} after {found.worlds:,} worlds")

    # It is the variant that fails there, and not the scenario.
    assert search(Model(scenario), limit=2 * found.worlds).kind is None
