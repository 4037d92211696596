"""What to do with a delivery: the protocol's table (rules/claim.py), carried out.

The plain case, a first delivery of an original, claims without reading anything. Every other case,
and every refusal, reads the log's last record and asks the table again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from agentflow.errors import BusError, InvalidTask, PayloadTooLarge, UsageError
from agentflow.log.task import Overtaken
from agentflow.protocol import control, limits, subjects
from agentflow.protocol.control import Held as HeldAnswer
from agentflow.protocol.control import Holds
from agentflow.protocol.record import EMPTY, Last
from agentflow.rules import claim
from agentflow.rules.claim import Act, after_silence, decide, is_fresh
from agentflow.worker.attempt import Attempt
from agentflow.worker.held import Ending, Held
from agentflow.worker.parsed import Parsed
from agentflow.worker.shared import Shared
from agentflow.worker.suspect import Suspects

_log = logging.getLogger(__name__)

NOTE_FOR: Final = 2.5 * limits.UPGRADE_DELAY
"""A message that this version does not understand comes again within this time, or is gone."""


class Intake:
    """Carries the table out for one worker."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._upgrade = ("", 0.0)
        self._suspects = Suspects()

    def notes(self) -> list[str]:
        """What a person should know of; sent with the heartbeats."""
        text, since = self._upgrade
        return [text] if text and time.monotonic() - since < NOTE_FOR else []

    async def take(self, held: Held) -> None:
        """Do what the table says until the delivery is dealt with. Raises Overtaken, BusError."""
        log, kinds = self._shared.log, self._shared.kinds
        deadly = await self._suspects.deadly(held.delivered)
        parsed = Parsed(held, log.now(), kinds.defaults, deadly=deadly)
        held.id, held.queue, held.kind = parsed.origin.id, parsed.origin.queue, parsed.origin.kind
        if is_fresh(parsed.delivery):
            act, last = Act.CLAIM, EMPTY
        else:
            last = await log.read(held.id)
            act = decide(parsed.delivery, last)
        while True:
            if act is Act.DISOWN and last.record is not None:
                parsed.disown(last.record)
                held.id = parsed.origin.id
                last = await log.read(held.id)
                act = decide(parsed.delivery, last)
            if act is Act.ASK:
                answer = await self._ask(parsed, last)
                if answer is None:
                    return  # its owner lives: leave the delivery alone
                act = answer
            if held.ending is Ending.STOPPING:
                self._shared.endings.give_back(held)
                return
            try:
                await self._do(act, parsed, last)
                return
            except Overtaken as overtaken:
                if held.last is not None:
                    raise  # the task was claimed here; what follows is another's
                last = overtaken.last
                act = decide(parsed.delivery, last)

    async def _do(self, act: Act, parsed: Parsed, last: Last) -> None:
        endings, message = self._shared.endings, parsed.held.delivered.message
        match act:
            case Act.CLAIM if parsed.task is not None:
                await Attempt(self._shared, parsed, last).go()
            case Act.CLAIM:
                problem = parsed.problem or InvalidTask("the message cannot be read")
                await endings.refuse(parsed, last, problem.reason, str(problem))
            case Act.ACK:
                _tell_dropped(parsed, last)
                endings.settle(parsed.held, last)
            case Act.REPUBLISH_DEAD:
                await self._shared.log.publish_dead(last, message.data, message.block)
                endings.settle(parsed.held, last)
            case Act.REPUBLISH_SCHEDULE:
                await self._schedule_again(parsed, last)
            case Act.REPUBLISH_ENTRY:
                await self._shared.into_batches.again(parsed, last)
            case Act.WAKE:
                await self._shared.into_batches.wake(parsed, last)
            case Act.EXPIRE:
                text = f"the task waited more than {limits.HORIZON // limits.DAY} days"
                await endings.refuse(parsed, last, "expired", text)
            case Act.REJECT:
                text = (
                    f"the message was delivered more than {limits.MAX_DELIVERIES} times, and "
                    "parsing it kills the process that does it"
                )
                await endings.refuse(parsed, last, "too_many_deliveries", text)
            case Act.LOST:
                who = last.record.actor if last.record else "unknown"
                text = f"its worker {who} was lost, and no attempt is left"
                await endings.refuse(parsed, last, "worker_lost", text)
            case Act.AGAIN:
                endings.give_back(parsed.held, claim.AGAIN_AFTER)
            case Act.UPGRADE:
                self._leave_for_later(parsed.held)

    async def _schedule_again(self, parsed: Parsed, last: Last) -> None:
        shared, message = self._shared, parsed.held.delivered.message
        try:
            await shared.log.publish_schedule(last, message.data, message.block)
        except PayloadTooLarge as error:
            # Its headers fill the server's max_payload: no schedule could ever carry it.
            await shared.endings.refuse(parsed, last, "too_large", f"cannot be parked: {error}")
        else:
            shared.endings.settle(parsed.held, last)

    def _leave_for_later(self, held: Held) -> None:
        text = f"upgrade needed: task {held.id} is of a newer version"
        self._upgrade = (text, time.monotonic())
        _log.warning("%s", text, extra={"action": "upgrade", "task_id": held.id})
        self._shared.endings.give_back(held, limits.UPGRADE_DELAY)

    async def _ask(self, parsed: Parsed, last: Last) -> Act | None:
        """Ask the owner of a running task whether it holds the message; None when it does."""
        assert last.record is not None
        held, owner = parsed.held, last.record.actor
        attempts = parsed.task.max_attempts if parsed.task else limits.MAX_ATTEMPTS
        if owner != self._shared.log.actor and await self._is_held(owner, held):
            return None
        facts = {"action": "takeover", "task_id": held.id, "attempt": last.record.attempt}
        _log.warning("task %s: its worker %s is silent; taking over", held.id, owner, extra=facts)
        return after_silence(parsed.delivery, last, attempts)

    async def _is_held(self, owner: str, held: Held) -> bool:
        question = control.encode(Holds(message=held.delivered.identity))
        loop = asyncio.get_running_loop()
        end = loop.time() + limits.ASK_FOR
        while (now := loop.time()) < end and held.ending is not Ending.STOPPING:
            try:
                answer = await self._shared.connection.request(
                    subjects.control("worker", owner), question, timeout=limits.ASK_EVERY
                )
            except UsageError:
                return False  # no actor has a name that is no token of a subject
            except BusError:
                pass  # no responders is silence too: the owner may be reconnecting at this moment
            else:
                match control.decode(answer.data):
                    case HeldAnswer(holds=holds):
                        return holds
            await asyncio.sleep(max(0.0, now + limits.ASK_EVERY - loop.time()))
        return False


def _tell_dropped(parsed: Parsed, last: Last) -> None:
    """The only trace of a message that no record names; `agentflow verify --log` looks for it."""
    message, task_id = parsed.delivery.message, parsed.origin.id
    if last.record is not None and last.record.message == message:
        return
    facts = {"action": "drop", "task_id": task_id}
    _log.info("task %s: message %s dropped, the log is past it", task_id, message, extra=facts)
