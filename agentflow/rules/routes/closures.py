"""When a route is closed, how it is tried again, and whose failure it is. Pure.

A route is a credential and a model family. What it meets is written under its key of the bucket,
`closed.<pool>.<family>`, by compare-and-set; each function here takes the key's present value and
gives the next one, so two workers never undo each other.

    no key      open: requests go
    suspect     one task was refused for its credential; another one finds out (at once)
    closed      until `until`: nobody asks
    half-open   `until` is over: whoever writes `probe` first sends one request, the others wait
                (the claim moves `until`, so a probe that dies is followed by another)

The probe's answer opens the route (the key is deleted); its failure closes it for longer. A
credential is believed bad, and the service broken, only when a second task meets what the first one
met: a feature that one prompt asks for is that prompt's own affair. Where the route has answered
lately nobody waits for one refusal: it takes four tasks with no answer between them, because a job
may hold several such prompts, and a service has its moments. What `operator` closed is
opened by a person, and by nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from agentflow.protocol import limits

OPERATOR: Final = "operator"
PROBE_FOR: Final = 60.0
"""Seconds that a probe has to get an answer; after them another one may go."""
SUSPECT_FOR: Final = 2.0
"""Seconds after which the task that raised a suspicion is tried again."""
AWAY_FOR: Final = 15.0
"""Most seconds for which a task is parked by what is no limit; after them it waits at the gate."""
OTHERS: Final = 1
OTHERS_IF_WELL: Final = 3
"""Tasks beside the first that must meet a refusal before the route is believed bad."""
WELL_FOR: Final = 300.0
"""Seconds for which an answer shows that the credential is good."""


class Steps(msgspec.Struct, frozen=True):
    """For how many seconds a route is closed: `first`, times `factor` each time, up to `most`."""

    first: float
    most: float
    factor: float = 2.0
    confirm: bool = False
    """Whether a second task must meet it too."""

    def seconds(self, step: int) -> float:
        """How long the `step`-th closing in a row lasts (1: the first)."""
        return float(min(self.most, self.first * self.factor ** min(max(0, step - 1), 32)))


STEPS: Final[dict[str, Steps]] = {
    "rate": Steps(2.0, 60.0),
    "overload": Steps(2.0, 60.0),
    "unreachable": Steps(1.0, 60.0),
    "server": Steps(1.0, 60.0, confirm=True),
    "auth": Steps(300.0, 1800.0, factor=6.0, confirm=True),
    "spend": Steps(300.0, 1800.0, factor=6.0, confirm=True),
}
"""By the reason of a closing."""


class Closed(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from"}):
    """A closed route. `until` None: until a person resumes it (`operator`, and versions before).

    `step` counts closings in a row, `probe` is the actor whose request is under way, `met` are the
    tasks whose refusal made the suspicion (empty once it is believed, and for all that needs none).
    """

    v: int = 1
    since: datetime
    until: datetime | None = None
    reason: str
    error_code: str | None = None
    request_id: str | None = None
    actor: str = ""
    message: str | None = None
    step: int = 0
    probe: str = ""
    met: list[str] = []

    def holds(self, now: datetime) -> bool:
        """Whether nobody may ask: its time is not over."""
        return self.until is None or self.until > now

    @property
    def suspect(self) -> bool:
        """Whether the refusal may be one task's own."""
        return bool(self.met)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What a request met that says something of its route.

    `reason` is a key of STEPS; `retry_after` seconds as the API told. `probe`: the request was the
    one that found out. `again`: this task was refused for the same before.
    """

    reason: str
    task_id: str
    actor: str
    retry_after: float | None = None
    error_code: str | None = None
    request_id: str | None = None
    message: str = ""
    probe: bool = False
    again: bool = False


class Blame(StrEnum):
    """Whose failure it is."""

    ROUTE = "route"  # the task waits with the others, and nothing is counted against it
    TASK = "task"  # the task's own: the retry table decides


class Verdict(msgspec.Struct, frozen=True):
    """The key's next value (None: no key), whose failure it is, and when to try the task again."""

    closed: Closed | None
    blame: Blame
    resume_at: datetime


_decoder = msgspec.json.Decoder(Closed)


def read(value: bytes | None) -> Closed | None:
    """The closure in a key's value; one that cannot be read closes nothing."""
    if not value:
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def encode(closed: Closed | None) -> bytes | None:
    """The key's value."""
    return None if closed is None else msgspec.json.encode(closed)


def half_open(closed: Closed | None, now: datetime) -> bool:
    """Whether one request may find out: the time is over."""
    return closed is not None and not closed.holds(now)


def claim_probe(present: Closed | None, actor: str, now: datetime) -> Closed | None:
    """The value with which `actor` sends the one request; unchanged where another was first."""
    if present is None or present.holds(now):
        return present
    return msgspec.structs.replace(present, probe=actor, until=now + timedelta(seconds=PROBE_FOR))


def answered(present: Closed | None, actor: str, *, probe: bool = True) -> Closed | None:
    """The value after a request of `actor` was answered: None where it was the probe's.

    A suspicion ends with any answer: the credential is good, and the service is there.
    """
    if present is None or present.reason == OPERATOR:
        return present
    return None if present.suspect or (probe and present.probe == actor) else present


def released(present: Closed | None, actor: str, now: datetime) -> Closed | None:
    """The value after the probe of `actor` ended without an answer: another one may go at once."""
    if present is None or present.probe != actor or present.reason == OPERATOR:
        return present
    return msgspec.structs.replace(present, probe="", until=now)


def refused(
    present: Closed | None,
    refusal: Refusal,
    now: datetime,
    *,
    met: int | None = None,
    random: Callable[[], float],
) -> Verdict:
    """What a refusal makes of the route.

    `met`: so many tasks of this worker, this one included, were refused since the route answered
    it; None where it has not answered lately.
    """
    steps = STEPS[refusal.reason]
    if present is not None and present.reason == OPERATOR and present.holds(now):
        return Verdict(present, Blame.ROUTE, _spread(now, SUSPECT_FOR, random))
    if not steps.confirm or _believed(present, refusal):
        return _shut(present, refusal, now, random)
    if met is None:
        return _suspected(present, refusal, now, random)
    probing = _is_probe(present, refusal)
    if met > OTHERS_IF_WELL:
        # What is closed for another reason, and longer, stays so.
        held = present is not None and present.holds(now) and not probing
        return _shut(present if held else None, refusal, now, random)
    soon = _spread(now, SUSPECT_FOR, random)
    return Verdict(None if probing else present, Blame.TASK if refusal.again else Blame.ROUTE, soon)


def _believed(present: Closed | None, refusal: Refusal) -> bool:
    """Whether the route is known to be closed for this: no single task is suspected any more."""
    return present is not None and present.reason == refusal.reason and not present.suspect


def _suspected(
    present: Closed | None,
    refusal: Refusal,
    now: datetime,
    random: Callable[[], float],
) -> Verdict:
    """A refusal that may be the task's own: another task finds out."""
    soon = _spread(now, SUSPECT_FOR, random)
    same = present if present is not None and present.reason == refusal.reason else None
    probing = _is_probe(present, refusal)
    if same is None:
        if present is not None and present.holds(now) and not probing:
            return Verdict(present, Blame.ROUTE, soon)  # closed for another reason meanwhile
        return Verdict(_closed(refusal, now, now, met=[refusal.task_id]), Blame.ROUTE, soon)
    if refusal.task_id in same.met:
        # Nobody else met it, or the others are still to find out: either way it is its own.
        free = msgspec.structs.replace(same, probe="", until=now) if probing else same
        return Verdict(free, Blame.TASK, soon)
    if not probing:
        return Verdict(same, Blame.ROUTE, soon)  # it was under way when the suspicion arose
    met = [*same.met, refusal.task_id]
    if len(met) > OTHERS:
        return _shut(None, refusal, now, random)
    return Verdict(_closed(refusal, now, now, since=same.since, met=met), Blame.ROUTE, soon)


def _is_probe(present: Closed | None, refusal: Refusal) -> bool:
    return refusal.probe and present is not None and present.probe == refusal.actor


def _shut(
    present: Closed | None, refusal: Refusal, now: datetime, random: Callable[[], float]
) -> Verdict:
    """Close, or keep closed; longer only after a probe."""
    steps = STEPS[refusal.reason]
    same = present is not None and present.reason == refusal.reason
    probing = _is_probe(present, refusal)
    if present is None or (not same and not present.holds(now)):
        step, since = 1, now
    elif probing:
        step, since = present.step + 1 if same else 1, present.since if same else now
    else:
        step, since = max(1, present.step) if same else 1, present.since if same else now
    seconds = steps.seconds(step)
    if refusal.retry_after is not None:
        told = min(max(1.0, refusal.retry_after), float(limits.HORIZON))
        seconds = told if refusal.reason == "rate" else max(seconds, told)
    until = now + timedelta(seconds=seconds)
    # A closure moves only later, but for its own probe's answer.
    if present is not None and not probing and (present.until is None or present.until >= until):
        return Verdict(present, Blame.ROUTE, _after(refusal.reason, present.until, now, random))
    closed = _closed(refusal, now, until, since=since, step=step)
    return Verdict(closed, Blame.ROUTE, _after(refusal.reason, until, now, random))


def _closed(
    refusal: Refusal,
    now: datetime,
    until: datetime,
    *,
    since: datetime | None = None,
    step: int = 0,
    met: list[str] | None = None,
) -> Closed:
    return Closed(
        since=since or now,
        until=until,
        reason=refusal.reason,
        error_code=refusal.error_code,
        request_id=refusal.request_id,
        actor=refusal.actor,
        message=refusal.message[:300] or None,
        step=step,
        met=met or [],
    )


def _after(
    reason: str, until: datetime | None, now: datetime, random: Callable[[], float]
) -> datetime:
    """When a task that met it comes again: a little later, so that a thousand do not come at once.

    A limit's end is known. Anything else may be mended sooner than a parked task would come, which
    nobody can call back: it comes soon, and waits at the gate.
    """
    left = float("inf") if until is None else (until - now).total_seconds()
    return _spread(
        now,
        max(1.0, left if reason == "rate" and until is not None else min(left, AWAY_FOR)),
        random,
    )


def _spread(now: datetime, seconds: float, random: Callable[[], float]) -> datetime:
    return now + timedelta(seconds=seconds * (1.0 + 0.2 * random()))
