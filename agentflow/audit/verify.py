"""Read everything, then judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agentflow.audit import reading
from agentflow.audit.judgement import Calls, Report, Submission, judge
from agentflow.bus.streams.jetstream import JetStream


async def verify(
    js: JetStream,
    *,
    ledger: Iterable[Submission] | None = None,
    complete: bool = False,
    calls: Calls | None = None,
    dropped: Mapping[str, str] | None = None,
    at_rest: bool = False,
    faults: int | None = None,
    listen: float = 0.0,
) -> Report:
    """What is wrong, and figures. Raises BusError.

    `ledger` is what was submitted, `complete` that nothing else was; `calls` what Claude was
    asked; `dropped` what workers say they dropped. `at_rest` demands that all has ended and nothing
    is left behind, for which the workers' heartbeats are listened to for `listen` seconds.
    `faults`: so often at most may one task have been started without need.
    """
    known = None if ledger is None else list(ledger)
    heard = await reading.slots(js, listen) if listen else None
    found = await reading.read(js)
    await reading.look_again(js, found)
    found.ledger, found.complete, found.calls, found.slots = known, complete, calls, heard
    found.dropped = dict(dropped or {})
    return judge(found, at_rest=at_rest, faults=faults)
