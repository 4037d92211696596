"""Carries out acts, and follows each to its effect: the receipt says how far it has come.

    sent -> accepted (the client's call has returned) -> effect (the feed has told of it)

What was not answered may have been done all the same, so it is looked for like the rest: only the
feed says what became of it. Each act is fenced by the client's own call, so none does harm twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from agentflow.client import Client
from agentflow.client.operate.bulk import as_stream, concurrently
from agentflow.dashboard.feed.receipts import EVERY, Progress, Ticket
from agentflow.dashboard.reader import acts
from agentflow.dashboard.reader.equivalents import stopped
from agentflow.dashboard.reader.reader import Reader
from agentflow.dashboard.reader.scene import Receipt
from agentflow.dashboard.store.store import Store
from agentflow.errors import AgentFlowError, NoAnswer, NotConnected
from agentflow.protocol.record import State
from agentflow.rules.routes import gates

AT_ONCE: Final = 32
PER_LOOK: Final = 100_000
"""Targets a second that may be looked for."""
GIVE_UP: Final = 60.0
"""Seconds after which it is looked for no longer."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an act is done to: as the store had it when the act began."""

    name: str
    sequence: int = 0
    message: str = ""


Do = Callable[[Client, Target], Awaitable[str]]
"""Does it to one target; returns "" or why it was not done."""
Seen = Callable[[Store, Target], bool]


@dataclass(frozen=True, slots=True)
class Deed:
    """How an act is done and how its effect is seen; None: the answer is the effect.

    `waiting` says what may keep the effect from being seen; `takes_letter`: the dead letter goes.
    """

    do: Do
    seen: Seen | None
    waiting: str = ""
    takes_letter: bool = False


async def _cancel(client: Client, target: Target) -> str:
    ended = await client.tasks.steering.end(target.name, message=target.message)
    if ended.already and ended.result.state != State.CANCELLED:
        return f"it had ended before: {ended.result.state}"
    return ""


async def _retry(client: Client, target: Target) -> str:
    return (await client.dead.retry_one(target.name)).text


async def _drop(client: Client, target: Target) -> str:
    return (await client.dead.drop_one(target.name)).text


async def _pause(client: Client, target: Target) -> str:
    await client.pause(target.name)
    return ""


async def _resume(client: Client, target: Target) -> str:
    name = target.name
    if name.startswith(gates.CLOSED):
        lifted = await client.resume(pool=name.removeprefix(gates.CLOSED))
    elif name.startswith(gates.PAUSED_KIND):
        lifted = await client.resume(kind=name.removeprefix(gates.PAUSED_KIND))
    else:
        lifted = await client.resume(name)
    return "" if lifted else "nothing of that was paused or closed"


async def _drain(client: Client, target: Target) -> str:
    await client.drain(target.name)
    return ""


def _cancelled(store: Store, target: Target) -> bool:
    row = store.rows.get(target.name)
    return row is not None and row.state == State.CANCELLED


def _went_on(store: Store, target: Target) -> bool:
    """Its log has a record after the failure: a state may be over before it is looked at."""
    row = store.rows.get(target.name)
    return row is not None and row.sequence > target.sequence


def _stops(store: Store, target: Target) -> bool:
    actor = store.actors.get(target.name)
    return actor is None or actor.beat.stopping


DEEDS: Final[dict[str, Deed]] = {
    "cancel": Deed(_cancel, _cancelled),
    "retry": Deed(_retry, _went_on, "it waits in its queue", takes_letter=True),
    "retry_group": Deed(_retry, _went_on, "it waits in its queue", takes_letter=True),
    "drop": Deed(_drop, None, takes_letter=True),
    "drop_group": Deed(_drop, None, takes_letter=True),
    "pause": Deed(_pause, lambda store, target: stopped(store, target.name) is not None),
    "resume": Deed(_resume, lambda store, target: stopped(store, target.name) is None),
    "drain": Deed(_drain, _stops),
}


async def _nothing(client: Client, target: Target) -> str:
    return ""


_SUBMIT: Final = Deed(_nothing, lambda store, target: target.name in store.rows)


class Acting:
    """Acts of one dashboard. `now` is the server's clock, `touch` asks for another frame."""

    def __init__(
        self,
        client: Client,
        reader: Reader,
        now: Callable[[], float],
        touch: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._reader = reader
        self._now = now
        self._touch = touch

    async def perform(self, act: str, targets: Sequence[str], command: str = "") -> Receipt:
        """Do it to all targets and follow it to its effect; returns the receipt's last word."""
        deed, names = DEEDS[act], dict.fromkeys(targets)
        wanted = {name: self._target(name) for name in names}
        progress = Progress(len(wanted), acts.ACTS[act].done, deed.waiting)
        if not command:
            command = acts.preview(self._reader.scene(self._now()), act, list(names)).command
        ticket = Ticket(self._reader.receipts, self._now(), command, progress, self._touch)
        pending: dict[str, Target] = {}

        async def one(name: str) -> tuple[str, str, bool]:
            try:
                return name, await deed.do(self._client, wanted[name]), True
            except (NoAnswer, NotConnected) as error:
                return name, str(error), False
            except AgentFlowError as error:
                return name, str(error) or type(error).__name__, True

        async with aclosing(concurrently(as_stream(names), one, AT_ONCE)) as outcomes:
            async for name, problem, answered in outcomes:
                progress.accepted_after = progress.passed
                if problem and answered:
                    progress.failed[name] = problem
                    continue
                pending[name] = wanted[name]
                if problem:
                    progress.unsure[name] = problem
                else:
                    progress.accepted += 1
                if ticket.due:
                    self._look(deed, pending, progress)
                    ticket.show()
        if deed.takes_letter:
            self._forget(wanted.keys() - progress.failed.keys() - progress.unsure.keys())
        await self._follow(deed, pending, progress, ticket)
        return ticket.show()

    async def submit(
        self,
        arguments: Mapping[str, Any],
        command: str = "",
        stored: Callable[[str], None] = lambda task_id: None,
    ) -> Receipt:
        """Submit a task and follow it until the feed tells of it.

        `arguments` are those of client.submit; `stored` gets its id as soon as the server has it.
        """
        progress = Progress(1, "stored", "the feed does not tell of it")
        ticket = Ticket(self._reader.receipts, self._now(), command, progress, self._touch)
        try:
            handle = await self._client.submit(**arguments)
        except AgentFlowError as error:
            progress.failed["task"] = str(error) or type(error).__name__
            return ticket.show()
        progress.accepted, progress.accepted_after = 1, progress.passed
        progress.done = f"{handle.id} is known"
        stored(handle.id)
        await self._follow(_SUBMIT, {handle.id: Target(handle.id)}, progress, ticket)
        return ticket.show()

    def _target(self, name: str) -> Target:
        row = self._reader.store.rows.get(name)
        return Target(name, row.sequence, row.message) if row is not None else Target(name)

    async def _follow(
        self, deed: Deed, pending: dict[str, Target], progress: Progress, ticket: Ticket
    ) -> None:
        """Look for the effects until all have been seen, or it has taken too long."""
        self._look(deed, pending, progress)
        while pending and not progress.given_up:
            ticket.show()
            await asyncio.sleep(max(EVERY, len(pending) / PER_LOOK))
            self._look(deed, pending, progress)
            if pending and (
                deed.seen is None or progress.passed - progress.accepted_after > GIVE_UP
            ):
                progress.given_up = True

    def _look(self, deed: Deed, pending: dict[str, Target], progress: Progress) -> None:
        store = self._reader.store
        seen = deed.seen
        for name, target in list(pending.items()):
            # Without anything to see the answer is all that tells.
            if name not in progress.unsure if seen is None else seen(store, target):
                del pending[name]
                progress.unsure.pop(name, None)
                progress.seen += 1
                progress.seen_after = progress.passed

    def _forget(self, gone: set[str]) -> None:
        """Letters that are no longer there are no longer shown."""
        answers = self._reader.answers
        if answers.letters is not None and gone:
            answers.letters = [letter for letter in answers.letters if letter.id not in gone]
