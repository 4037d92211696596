"""The protocol as steps between worlds."""

from __future__ import annotations

from collections.abc import Iterator

from agentflow.protocol import limits
from agentflow.rules.claim import Act
from tests.support.model import rules, withdrawing
from tests.support.model.checks import Checks
from tests.support.model.world import (
    CANCELLED,
    CLIENT,
    FAILED,
    NOTHING,
    PARKED,
    QUEUED,
    RETRYING,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    TERMINAL,
    B,
    Entry,
    Message,
    Other,
    Process,
    World,
    end,
    pay,
    publish,
    put,
    remove,
    resume,
)

Step = tuple[str, World]
ProcessStep = tuple[str, Process | None, World]
OtherStep = tuple[str, tuple[Other, ...], World]


class Model(Checks):
    """Every step that workers, clients, the server and the sweep may take."""

    def initial(self) -> World:
        return World(
            0, (), (Message(1),), 2, frozenset(), (), (), (), False, False, False,
            self.scenario.budget,
        )  # fmt: skip

    def steps(self, world: World) -> Iterator[Step]:
        """Every world that may come next, with what happened."""
        yield from self._environment(world)
        for i, process in enumerate(world.processes):
            rest = world.processes[:i] + world.processes[i + 1 :]
            for label, process_after, world_after in self._process(world, process):
                processes = rest if process_after is None else sorted((*rest, process_after))
                told = f"m{process.message}@{process.actor} {process.at}: {label}"
                yield told, world_after._replace(processes=tuple(processes))
        for i, other in enumerate(world.others):
            alone = world._replace(others=world.others[:i] + world.others[i + 1 :])
            for label, new, world_after in self._other(alone, other):
                others = tuple(sorted((*world_after.others, *new)))
                yield label, world_after._replace(others=others)

    def _environment(self, world: World) -> Iterator[Step]:
        budget, entry = world.budget, end(world)
        if budget[B.DELIVER]:
            for message in world.tasks:
                yield from self._deliver(world, message)
        if budget[B.DUPLICATE]:
            yield "submitted again", publish(pay(world, B.DUPLICATE), 0)
        if budget[B.REUSE]:
            yield "another request has its id", publish(pay(world, B.REUSE), 0, 1)
        if budget[B.CANCEL] and entry.state not in TERMINAL:
            asked = entry.asked if entry.seq else None
            new = Entry(world.top + 1, CANCELLED, entry.message, CLIENT, entry.seq, asked=asked)
            after = self.append(pay(world, B.CANCEL), new, 0)
            yield "cancelled", after._replace(others=(*world.others, Other("purge")))
        if budget[B.MANUAL]:
            yield from self.manual_retry(pay(world, B.MANUAL))
        if budget[B.CORRECT] and entry.state == FAILED:
            corrected = publish(pay(world, B.CORRECT), entry.seq, 1)
            yield "retried by hand, corrected", corrected
        if budget[B.FORGE]:
            yield from self.forge(pay(world, B.FORGE))
        if budget[B.WITHDRAW]:
            for each in withdrawing.found(world):
                after = pay(world, B.WITHDRAW)
                yield "somebody withdraws", after._replace(others=(*world.others, each))
        for item in world.schedules:
            gone = world._replace(schedules=world.schedules - {item})
            if self.scenario.spend.get(B.SWEEP):  # only the sweep can tell due from delivered
                yield "schedule fires", gone._replace(due=(*world.due, item[1]))
            else:
                yield "schedule fires", resume(gone, item[1])
            if budget[B.TWICE]:
                yield "schedule fires, and will again", resume(pay(world, B.TWICE), item[1])
        if world.due:
            yield "due task is sourced", resume(world._replace(due=world.due[1:]), world.due[0])
        if (
            budget[B.EXPIRE]
            and world.log
            and not world.others
            and all(process.at == "work" for process in world.processes)
        ):
            # What was stored before the last record is past 6 days too; the rest may be.
            for young_after in (entry.message, world.next_id):
                tasks = tuple(m._replace(old=m.old or m.id <= young_after) for m in world.tasks)
                yield (
                    "log expires",
                    pay(world, B.EXPIRE)._replace(log=(), tasks=tasks, expired=True),
                )
        if budget[B.LOSE] and entry.seq:
            lost = pay(world, B.LOSE)._replace(lost=True)
            for message in world.tasks:
                if message.id == entry.message or message.follows == entry.seq:
                    yield f"m{message.id} is lost", remove(lost, message.id)
            for item in world.schedules:
                if item[0] == entry.seq:
                    yield "schedule is lost", lost._replace(schedules=world.schedules - {item})
        if budget[B.SWEEP] and entry.seq and entry.state not in TERMINAL:
            other = Other("sweep parked" if entry.state in PARKED else "sweep owned", entry.seq)
            yield (
                "sweep reads the log",
                pay(world, B.SWEEP)._replace(others=(*world.others, other)),
            )

    def _deliver(self, world: World, message: Message) -> Iterator[Step]:
        # A worker ignores what it holds, so another has it now; the same worker may hold a
        # duplicate: that makes mistakes about who wrote what likelier than a worker each.
        holders = {p.actor for p in world.processes if p.message == message.id}
        actor = next(i for i in range(99) if i not in holders)
        seen = tuple(m._replace(seen=True) if m is message else m for m in world.tasks)
        for spent, delivered in (
            (B.DELIVER, 2 if message.seen else 1),
            (B.MANY, limits.MAX_DELIVERIES + 1),
        ):
            if world.budget[spent]:
                fresh = rules.is_fresh(message.id, message.follows, delivered, message.old)
                process = Process(
                    "claim" if fresh else "read", actor, message.id, message.follows,
                    delivered, message.old, 0 if fresh else -1, asked=message.asked,
                    sourced=message.sourced,
                )  # fmt: skip
                yield (
                    f"m{message.id} is delivered to {actor}",
                    pay(world, spent)._replace(
                        tasks=seen, processes=tuple(sorted((*world.processes, process)))
                    ),
                )

    def readable(self, world: World) -> list[Entry]:
        """What a read of the log's end may return: its end, and with stale reads older ones."""
        if self.scenario.tail == 1:
            return [end(world)]
        whole = not world.log or world.log[0].follows == 0
        return [*world.log[::-1], *([NOTHING] if whole else [])]

    def _process(self, world: World, process: Process) -> Iterator[ProcessStep]:
        match process.at:
            case "read" | "outcome":
                for entry in self.readable(world):
                    yield from self._read(world, process, entry)
            case "ask":
                yield from self._ask(world, process)
            case "claim":
                # A claim may also park (a paused kind) or fail at once (what is no task).
                parked = SCHEDULED if process.seq == 0 else RETRYING
                for state, spent in ((RUNNING, None), (parked, B.PARK), (FAILED, B.FAIL)):
                    yield from self._write(world, process, state, spent)
            case "fail":
                yield from self._write(world, process, FAILED, None)
            case "work":
                yield from self._write(world, process, SUCCEEDED, None)
                if self.accepts(world, process):  # a refusal is the same for all
                    for state, spent in (
                        (RUNNING, B.PROGRESS), (RETRYING, B.PARK), (FAILED, B.FAIL),
                        (QUEUED, B.HANDBACK), (CANCELLED, B.CANCEL),
                    ):  # fmt: skip
                        yield from self._write(world, process, state, spent)
            case "schedule":
                schedules = put(world.schedules, self.schedule(process.seq))
                yield "", process._replace(at="ack"), world._replace(schedules=schedules)
            case "dead":
                # A new dead letter has a new sequence: who read the old one deletes nothing.
                others = tuple(
                    o._replace(flag=0) if o.at in ("manual retry", "delete") else o
                    for o in world.others
                )
                after = world._replace(dead=True, others=tuple(sorted(others)))
                yield "", process._replace(at="ack"), after
            case "disowned":  # its other log is like any; here it is gone
                self.check_disowned(world, process)
                yield "", None, remove(world, process.message)
            case "ack":
                self.check_ack(world, process)
                yield "", None, remove(world, process.message)

    def _read(self, world: World, process: Process, entry: Entry) -> Iterator[ProcessStep]:
        if process.sent and self.is_own(process, entry):
            yield "it was stored", self.after(process, entry._replace(state=process.sent)), world
            return
        if process.at == "outcome":
            again = entry.seq == process.seq
            yield (
                ("send again", process._replace(at="work", sent=""), world)
                if again
                else ("superseded", self.superseded(process), world)
            )
            return
        act = self.decide(
            process.message, process.follows, process.delivered, process.old, entry, process.asked,
            process.sourced,
        )  # fmt: skip
        at = {
            Act.CLAIM: "claim", Act.ASK: "ask", Act.ACK: "ack", Act.REPUBLISH_DEAD: "dead",
            Act.REPUBLISH_SCHEDULE: "schedule", Act.EXPIRE: "fail", Act.REJECT: "fail",
            Act.DISOWN: "disowned", Act.AGAIN: "",
        }[act]  # fmt: skip
        if not at:
            yield "later", None, world
            return
        failures = 0 if entry.state == FAILED else entry.failures
        after = process._replace(at=at, seq=entry.seq, sent="", failures=failures)
        yield f"{act} after {entry.state or 'nothing'} {entry.seq}", after, world

    def _ask(self, world: World, process: Process) -> Iterator[ProcessStep]:
        entry = next((e for e in world.log if e.seq == process.seq), end(world))
        if any(
            p.actor == entry.actor and p.message == process.message and p is not process
            for p in world.processes
        ):
            yield "yes", None, world
        act = rules.after_silence(
            process.message, process.delivered, entry, self.scenario.max_attempts
        )
        at = "claim" if act == Act.CLAIM else "fail"
        yield f"silence, {act}", process._replace(at=at, failures=process.failures + 1), world

    def _write(
        self, world: World, process: Process, state: str, spent: B | None
    ) -> Iterator[ProcessStep]:
        if spent is not None:
            if not world.budget[spent]:
                return
            world = pay(world, spent)
        tried = process._replace(sent=state)
        if not self.accepts(world, process):
            yield f"{state} refused", self.refused(tried), world
            return
        failures = process.failures + (state == RETRYING)
        entry = Entry(
            world.top + 1, state, process.message, process.actor, end(world).seq, failures,
            process.asked,
        )  # fmt: skip
        stored = self.append(world, entry, process.follows, process.sourced)
        yield f"{state} stored", self.after(process, entry), stored
        if world.budget[B.UNANSWERED]:
            yield (
                f"{state} stored, no answer",
                self.refused(tried),
                pay(stored, B.UNANSWERED),
            )
            late = Other("late", process.follows, int(process.sourced), entry)
            after = pay(world, B.UNANSWERED)
            yield (
                f"{state} on its way, no answer",
                self.refused(tried),
                after._replace(others=tuple(sorted((*world.others, late)))),
            )

    def _other(self, world: World, other: Other) -> Iterator[OtherStep]:
        entry = end(world)
        match other.at:
            case "late":
                if entry.seq == other.entry.follows:
                    new = other.entry._replace(seq=world.top + 1)
                    after = self.append(world, new, other.seq, bool(other.flag))
                    yield f"late {new.state} stored", (), after
                else:
                    yield "late write refused", (), world
            case "purge":
                yield "purge", (), remove(world._replace(schedules=frozenset()), entry.message)
            case "manual retry":
                yield from self._manual_retry(world, other)
            case "delete":
                yield "delete", (), world._replace(dead=world.dead and not other.flag)
            case "withdraw" | "withdraw removes" | "withdraw fails":
                yield from self.withdraw(world, other)
            case _:
                yield from self.sweep(world, other)

    # ------------------------------------------------------------ who only submits

    def forge(self, world: World) -> Iterator[Step]:
        """A hostile submitter names the end of the log, which he may have read, or all that is
        still to come."""
        for follows in {end(world).seq, world.top + 99} - {0}:
            yield f"a submitter says that it follows {follows}", publish(world, follows, 1)

    # ------------------------------------------------------------ withdrawal, manual retry, sweep

    def withdraw(self, world: World, other: Other) -> Iterator[OtherStep]:
        """Take back one message, or one schedule, that was found."""
        yield from withdrawing.steps(self, world, other)

    def manual_retry(self, world: World) -> Iterator[Step]:
        """It reads the dead letter before the log: see the variant that does not."""
        if world.dead:
            other = Other("manual retry", -1, 1)
            yield "dead letter is read", world._replace(others=(*world.others, other))

    def _manual_retry(self, world: World, other: Other) -> Iterator[OtherStep]:
        entry = end(world)
        if entry.state == FAILED or (world.expired and not entry.seq):
            after = publish(world, self.continuation(entry.seq), entry.asked or 0)
            yield "manual retry", (Other("delete", 0, other.flag),), after
        else:
            yield "manual retry given up", (), world

    def sweep(self, world: World, other: Other) -> Iterator[OtherStep]:
        """One read at a time, in this order. The parker's message must be gone first: until
        then its schedule may still be published, fire, and wait behind the noted sequence."""
        seq = other.seq
        message = next((e.message for e in world.log if e.seq == seq), -1)
        gone = all(m.id != message for m in world.tasks)
        match other.at:
            case "sweep owned" if gone:  # and the owner is silent, which it may always be
                yield "owner is silent", (Other("sweep", seq),), world
            case "sweep parked" if gone:
                yield "parker's message is gone", (Other("sweep schedule", seq),), world
            case "sweep schedule" if all(named != seq for named, _ in world.schedules):
                yield "no schedule", (Other("sweep due", seq),), world
            case "sweep due" if not world.due:
                yield "nothing is due", (Other("sweep passed", seq, world.next_id),), world
            case "sweep passed" if all(m.id >= other.flag for m in world.tasks):
                yield "first_seq is past it", (Other("sweep", seq),), world
            case "sweep":
                yield "sweep acts", (), self.sweep_acts(world, other)
            case _:
                yield "sweep finds it well", (), world
