"""Whether what lies in the bucket of payloads is still wanted by its task. Pure.

    succeeded, cancelled    no: nothing is stored after these
    failed                  while its dead letter is kept, or a retry by hand may be on its way
    not ended               yes
    no log                  the same as failed: it was not submitted yet, or its log has expired

A retry by hand deletes the dead letter and counts as a new storing of the payload, so its message
has the log's retention to be started in.
"""

from __future__ import annotations

from typing import Final

from agentflow.protocol.record import Last, State

_DONE: Final = frozenset({State.SUCCEEDED, State.CANCELLED})


def is_waited_for(last: Last) -> bool:
    """Whether its log alone says that it is wanted."""
    return last.record is not None and last.state not in _DONE and last.state != State.FAILED


def is_wanted(last: Last, *, dead_letter: bool, age: float, retention: float) -> bool:
    """`age`: seconds since it was stored; `retention`: those for which a log is kept."""
    if last.record is not None and last.state in _DONE:
        return False
    return is_waited_for(last) or dead_letter or age < retention
