"""Read everything, then judge: the whole of `agentflow verify` but for its words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agentflow.audit import reading
from agentflow.audit.evidence import Calls, Submission
from agentflow.audit.judgement import Report, judge
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
    # The order matters, see judgement.py: a ledger that grows meanwhile would name tasks too new.
    submissions = None if ledger is None else list(ledger)
    slots = await reading.hear_slots(js, listen) if listen else None
    evidence = await reading.read_evidence(js)
    await reading.look_again(js, evidence)
    evidence.ledger, evidence.complete = submissions, complete
    evidence.calls, evidence.slots = calls, slots
    evidence.dropped = dict(dropped or {})
    return judge(evidence, at_rest=at_rest, faults=faults)
