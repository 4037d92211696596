"""The exit status of a worker that was told to stop, for whoever must know it from any other end.

Any code may end its process with status 0. Whoever keeps workers running gives them another number
to end with; from a plain worker it is 0, as from any command.
"""

from __future__ import annotations

import os
from typing import Final

STATUS: Final = 83
"""One that hardly anybody else ends with."""
_ENV: Final = "AGENTFLOW_ORDERLY_STATUS"
ENVIRONMENT: Final = {_ENV: str(STATUS)}
"""For a worker whose starter asks."""


_status = 0


def asked_for() -> int:
    """The status that our starter wants."""
    global _status
    # Taken out of the environment: a worker that a handler starts has another starter.
    if os.environ.pop(_ENV, "") == str(STATUS):
        _status = STATUS
    return _status


def environment() -> dict[str, str]:
    """For this very process, when it executes itself anew."""
    return ENVIRONMENT if _status else {}
