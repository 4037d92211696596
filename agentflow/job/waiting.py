"""What a job waits for: a line for the bar, sentences as it comes and goes, and whether it needs a
person to end.

Nobody should watch a bar that stands and wonder. What lasts a moment is no sentence, but the bar
says it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

from agentflow.client import Client
from agentflow.errors import AgentFlowError
from agentflow.job.spec import FrontEnd, Held
from agentflow.job.tally import Tally
from agentflow.protocol.api import GateView
from agentflow.views import gates as gateviews

LOOK_EVERY: Final = 1.0
SERVED_EVERY: Final = 5.0
LASTING: Final = 5.0
"""Seconds that a closure must last to be told."""
PROBED: Final = 90.0
"""Seconds without a reason after which tasks are believed to go on; a probe takes 60 at most."""
SHOWN: Final = 120
"""Characters of an error in the bar."""

_WORDS: Final = {
    "auth": "refused",
    "spend": "at its spend limit",
    "rate": "closed",
    "overload": "closed",
    "unreachable": "closed",
    "server": "closed",
    "operator": "closed by hand",
}
_WHY: Final = {
    "rate": "rate limit",
    "overload": "Claude is overloaded",
    "unreachable": "Claude cannot be reached",
    "server": "Claude answers with errors",
}
_STUCK: Final = frozenset({"auth", "spend", "operator", "unreachable"})
"""Closures that may stand until a person has done something."""


class Waiting:
    """Looks at what keeps tasks from running, and tells the front end."""

    def __init__(
        self,
        client: Client,
        queue: str,
        tally: Tally,
        front_end: FrontEnd,
        *,
        families: Collection[str] = (),
        own_workers: bool = True,
        give_up: float | None = None,
    ) -> None:
        self._client = client
        self._queue = queue
        self._tally = tally
        self._front_end = front_end
        self._families = families
        self._own_workers = own_workers
        self._patience = Patience(give_up)
        self._told: dict[str, GateView] = {}
        self._unserved = False
        self._look_again = 0.0
        self.held: Held | None = None
        """As last told."""

    async def run(self) -> Held:
        """Until nothing has gone on without a person for as long as the job has patience."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(AgentFlowError):  # what is wrong with the bus, the job itself says
                await self._look(loop.time())
            if self.held is not None and self._patience.over(loop.time()):
                return self.held
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self, time: float) -> None:
        gates = [gate for gate in await self._client.pauses() if self._concerns(gate)]
        now, tally = self._client.js.now(), self._tally
        if not self._own_workers and time >= self._look_again:
            self._look_again = time + SERVED_EVERY
            self._unserved = not tally.running and await self._client.unserved(self._queue)
        self.tell(gates, now)
        running = len(tally.running)
        left = tally.total - tally.done - running
        found = held(gates, left, running, self._queue if self._unserved else "", now)
        if self._patience.see(tally.done, found, time):
            self.held = found
        self._front_end.waits(self.held)

    def tell(self, gates: Sequence[GateView], now: datetime) -> None:
        """Say what is new among the gates that stand, and what of those told has opened."""
        standing = {gate.key: gate for gate in gates}
        for key, gate in standing.items():
            before = self._told.get(key)
            if before is not None and before.reason == gate.reason:
                continue
            if gate.until is None or (gate.until - now).total_seconds() >= LASTING:
                self._told[key] = gate
                self._front_end.warn(_sentence(gate))
        for key in [key for key in self._told if key not in standing]:
            gate = self._told.pop(key)
            self._front_end.say(f"{gate.what} {gate.name} is open again")

    def _concerns(self, gate: GateView) -> bool:
        if gate.what == gateviews.QUEUE:
            return gate.name == self._queue
        family = gate.name.rpartition(".")[2]
        return gate.what != gateviews.POOL or not self._families or family in self._families


class Patience:
    """How long nothing has gone on without a person. Pure; the caller says what time it is.

    A closed route opens for a probe now and then, which runs and is refused: that is no progress. A
    task that has ended is.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._done = -1
        self._since: float | None = None
        self._last = 0.0

    def see(self, done: int, found: Held | None, time: float) -> bool:
        """Take note of how things are; whether `found` is to be shown instead of what was."""
        if done != self._done:
            self._done, self._since = done, None
        if found is not None and found.stuck:
            self._since = time if self._since is None else self._since
            self._last = time
        elif self._since is not None and time - self._last >= PROBED:
            self._since = None
        return found is not None or self._since is None

    def over(self, time: float) -> bool:
        """Whether it is over."""
        return (
            self._seconds is not None
            and self._since is not None
            and time - self._since >= self._seconds
        )


def held(
    gates: Sequence[GateView], left: int, running: int, unserved: str, now: datetime
) -> Held | None:
    """What `left` tasks wait for; None where it is their turn alone.

    `unserved` is the queue that no worker serves, empty where one does.
    """
    if left <= 0:
        return None
    if unserved:
        remedy = f"agentflow worker --queues {unserved}"
        text = f"{left:,} wait: no worker serves queue {unserved}; start one: {remedy}"
        return Held(count=left, text=text, stuck=True, remedy=f"start one: {remedy}")
    if not gates:
        return None
    # What only a person ends comes first, else what lasts longest.
    first = max(gates, key=lambda gate: (_needs_person(gate), _seconds_left(gate, now)))
    return Held(
        count=left,
        text=f"{left:,} wait: {_reason(first, now)}",
        stuck=not running and all(_needs_person(gate) for gate in gates),
        remedy=_remedy(first),
    )


def _needs_person(gate: GateView) -> bool:
    return gate.what != gateviews.POOL or gate.reason in _STUCK


def _seconds_left(gate: GateView, now: datetime) -> float:
    return float("inf") if gate.until is None else (gate.until - now).total_seconds()


def _reason(gate: GateView, now: datetime) -> str:
    if gate.what != gateviews.POOL:
        why = f" ({gate.reason})" if gate.reason not in ("", "operator") else ""
        return f"{gate.what} {gate.name} is paused{why}; let it go on: {gateviews.remedy(gate)}"
    said = (gate.message or "").split("\n")[0][:SHOWN]
    word = _WORDS.get(gate.reason, "closed")
    if gate.reason in ("auth", "spend"):
        detail = f" ({said})" if said else ""
        mend = "mend it, it goes on by itself, or at once"
        return f"key {word}{detail}: {mend}: {gateviews.remedy(gate)}"
    if gate.until is None:
        return f"key {word}; open it: {gateviews.remedy(gate)}"
    why = _WHY.get(gate.reason, gate.reason)
    detail = said if said.startswith(why) else f"{why}: {said}" if said else why
    return f"key {word} for {_clock(_seconds_left(gate, now))} ({detail})"


def _remedy(gate: GateView) -> str:
    at_once = gateviews.remedy(gate)
    if gate.what != gateviews.POOL or gate.reason == "operator":
        return f"let it go on: {at_once}"
    if gate.reason == "unreachable":
        return "see to the network, a proxy, or ANTHROPIC_BASE_URL (agentflow doctor)"
    return f"mend the key or its account (at once after that: {at_once})"


def _clock(seconds: float) -> str:
    whole = max(1, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _sentence(gate: GateView) -> str:
    text = f"tasks wait: {gateviews.sentence(gate)}"
    if gate.what == gateviews.POOL and gate.until is not None:
        return f"{text}. It is tried again by itself; at once: {gateviews.remedy(gate)}"
    return f"{text}. To let it go on: {gateviews.remedy(gate)}"
