"""Proof instead of trust: reads what the streams hold and says whether the promise was kept.

`verify` reads (reading.py, sources.py) and judgement.py judges. It needs nobody but the server,
changes nothing, and may be asked while the system is at work.
"""

from agentflow.audit.verify import verify

__all__ = ["verify"]
