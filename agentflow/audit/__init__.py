"""Proof instead of trust: reads what the streams hold and says whether the promise was kept.

    sources.py    what is not in the streams: ledger, workers' logs, requests to Claude
    reading.py    what is: every message and record, in the order in which a message travels
    evidence.py   all that was read
    trail.py      is one log what the protocol allows? (pure)
    judgement.py  evidence in, findings out (pure)
    verify.py     read, then judge

It needs nobody but the server, changes nothing, and may be asked while the system is at work.
"""

from agentflow.audit.verify import verify

__all__ = ["verify"]
