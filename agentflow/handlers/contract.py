"""What a handler is given and what it gives back.

A handler is `async def handler(run: Run) -> Outcome`. What it spends it writes into `run` as it
goes, so that usage and cost are kept when the attempt fails, times out or is cancelled. It reports
text as it is generated with `run.emit`, and fails by raising `AttemptFailed` with a signal for the
retry table; any other exception counts as the handler's own failure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from agentflow.errors import AgentFlowError
from agentflow.protocol.record import Failure, Repair, Usage
from agentflow.protocol.task import Defaults, Task
from agentflow.rules.retry import Signal
from agentflow.rules.routes.clock import Reading
from agentflow.rules.routes.prices import Cost
from agentflow.rules.routes.route import Route
from agentflow.waits import Waits


class Trace(msgspec.Struct, frozen=True):
    """Where code of somebody's failed: `file:line in function`, and the traceback."""

    at: str | None = None
    text: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended well: `text` for people, `value` for programs, `content` the rest."""

    text: str | None = None
    content: Any = None
    stop_reason: str | None = None
    value: Any = None


WHOLE: Final = frozenset({None, "end_turn", "stop_sequence"})
"""Reasons to stop of an answer that a schema holds for: a cut one, a refusal, a call of a tool are
what they are, and asking again would not mend them."""


class Payment:
    """What a request has cost, in micro-USD; None, as at first: nobody knows."""

    __slots__ = ("cost",)

    def __init__(self) -> None:
        self.cost: int | None = None


class Purse(Protocol):
    """The money that an attempt may spend, where budgets limit it."""

    def hold(self, most: Cost) -> AbstractAsyncContextManager[Payment]:
        """Enter it before a request that may cost so much, and send the request within.

        Entering waits until the budgets have room. Raises AttemptFailed where they will have none,
        or where nobody knows what the request may cost.
        """


class AttemptFailed(AgentFlowError):
    """An attempt failed; `signal` decides whether the task is tried again.

    `resume_at`: it is the failure of the route that was asked; the task waits until then with the
    others, and nothing is counted against it.
    """

    def __init__(self, failure: Failure, signal: Signal) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.signal = signal
        self.resume_at: datetime | None = None


class Run:
    """One attempt at a task, as its handler sees it.

    A handler that learns more of what it spent says it: `usage_told` is the usage as it came,
    `unpriced` why there is no cost, `estimated` that output tokens are counted by what came,
    `assumed` what an answer left out, `partial` what came of an answer that broke off.

    One whose service tells its limits says what it learns of them as it goes: `reading` what the
    headers say, `counted` the input tokens that count on a limit, `characters` how long the answer
    is so far.

    `fencing_token` is the sequence of the claiming record: of two attempts the later one has the
    greater token, which lets a handler's own side effects refuse the earlier.
    """

    __slots__ = (
        "_admit",
        "_answered",
        "_emit",
        "_progress",
        "assumed",
        "attempt",
        "characters",
        "cost_micro",
        "counted",
        "estimated",
        "fencing_token",
        "first_token_s",
        "model",
        "over",
        "partial",
        "purse",
        "reading",
        "repair",
        "request_id",
        "simulated",
        "task",
        "trace",
        "unpriced",
        "usage",
        "usage_told",
        "waits",
    )

    def __init__(
        self,
        task: Task,
        *,
        attempt: int = 1,
        fencing_token: int = 0,
        emit: Callable[[str], None] = lambda _: None,
        progress: Callable[[float | None, str | None], Awaitable[None]] | None = None,
        admit: Callable[[Route, Run | None], AbstractAsyncContextManager[None]] | None = None,
        answered: Callable[[], None] = lambda: None,
        purse: Purse | None = None,
    ) -> None:
        self.task = task
        self.attempt = attempt
        self.fencing_token = fencing_token
        self.usage = Usage()
        self.cost_micro: int | None = 0
        self.model: str | None = task.model
        self.request_id: str | None = None
        self.first_token_s: float | None = None
        self.simulated = False
        self.over = False
        """Whether nobody waits for the handler any more: what it says or asks goes nowhere."""
        self.waits = Waits()
        """What it waits for of other tasks."""
        self.trace: Trace | None = None
        """Where it failed, from whoever knows it better than the exception that is raised."""
        self.usage_told: dict[str, Any] | None = None
        self.unpriced: str | None = None
        self.estimated = False
        self.assumed: list[str] = []
        self.partial: Outcome | None = None
        self.repair: Repair | None = None
        """What of usage and cost asking again took."""
        self.purse = purse
        """Where there is one, each request that costs money is sent within its `hold`."""
        self.reading: Reading | None = None
        self.counted: int | None = None
        self.characters = 0
        self._emit = emit
        self._progress = progress
        self._admit = admit
        self._answered = answered

    def answered(self) -> None:
        """Say that the API has taken the request and begins to answer: its route is well."""
        self._answered()

    def emit(self, text: str) -> None:
        """Show text as it is generated; it is sent coalesced and not stored."""
        if not self.over:
            self._emit(text)

    async def progress(self, fraction: float | None = None, note: str | None = None) -> None:
        """Write how far the attempt is (0 to 1, or a sentence) into the task's log."""
        if self._progress is not None and not self.over:
            await self._progress(clamped(fraction), note)

    def when_answered(self, answered: Callable[[], None]) -> None:
        """Call this when the API begins to answer."""
        self._answered = answered

    def admit(self, route: Route, part: Run | None = None) -> AbstractAsyncContextManager[None]:
        """Enter it before a request by this route, and send the request within.

        Entering waits while the route is closed, and for the limits of its account where the
        request is made by `part`, a run of its own that tells them; what leaves it may close the
        route for others.
        For handlers that ask while they run; tasks of a `Routed` handler are admitted as a whole.
        """
        return nullcontext() if self._admit is None else self._admit(route, part)


def clamped(fraction: float | None) -> float | None:
    """A fraction as it can be shown: a sum of ninths ends above 1; NaN says nothing."""
    if fraction is None or fraction != fraction:
        return None
    return min(1.0, max(0.0, float(fraction)))


Handler = Callable[[Run], Awaitable[Outcome]]


@runtime_checkable
class Routed(Protocol):
    """A handler whose tasks need a credential that others share."""

    def route(self, task: Task) -> Route | None:
        """By which a task would ask, None where it asks nobody."""


@runtime_checkable
class Priced(Protocol):
    """A handler that knows what a task's first request may cost."""

    def most(self, task: Task) -> Cost:
        """Micro-USD at most; without them where there is no price. Raises InvalidTask."""


@runtime_checkable
class Metered(Protocol):
    """A handler of whose requests the service tells its limits (`Run.reading`)."""

    @property
    def metered(self) -> bool:
        """Whether it does."""


@runtime_checkable
class Pooled(Protocol):
    """A handler that knows how its credentials' limits stand."""

    def pools(self) -> dict[str, Any]:
        """By pool and family: in flight, refused with 429, last rate limits."""


@runtime_checkable
class WithDefaults(Protocol):
    """A handler whose tasks have other limits than the usual ones."""

    @property
    def defaults(self) -> Defaults:
        """The limits of tasks that name none."""


def defaults_of(handlers: Mapping[str, Handler]) -> dict[str, Defaults]:
    """Limits by kind, of the handlers that have their own."""
    known: dict[str, object] = dict(handlers)
    return {
        kind: handler.defaults
        for kind, handler in known.items()
        if isinstance(handler, WithDefaults)
    }


@runtime_checkable
class Noted(Protocol):
    """A handler that has something to tell with the heartbeats."""

    def notes(self) -> list[str]:
        """What a person should know of."""
