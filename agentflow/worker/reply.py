"""The answer to whoever asked for a task's result with `Agentflow-Reply`."""

from __future__ import annotations

import re
from typing import Final

from agentflow.bus.wire.connection import Connection
from agentflow.errors import NotConnected, PayloadTooLarge
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects
from agentflow.protocol.record import Last
from agentflow.protocol.record import encode as encode_record
from agentflow.worker.held import Held

# The subject comes from a stranger and is published with this worker's rights: a line break would
# be a command to the server, a subject of ours a record or a task that nobody was allowed to write.
_SUBJECT: Final = re.compile(r"(?!\$|agentflow\.|_R_\.)[!-)+-=?-~]{1,512}", re.ASCII)


def may_reply_to(subject: str) -> bool:
    """Whether a final record may be sent to `subject`."""
    return _SUBJECT.fullmatch(subject) is not None and "" not in subject.split(".")


def answer(connection: Connection, held: Held, last: Last) -> None:
    """Send the final record to the message's Agentflow-Reply, where it has one."""
    message = held.delivered.message
    if not message.block or last.record is None:
        return
    tell(connection, message.headers.get(subjects.REPLY) or "", last)


def tell(connection: Connection, reply: str, last: Last) -> None:
    """Send the final record to a subject that somebody named for it."""
    if last.record is None or not last.record.terminal or not may_reply_to(reply):
        return
    block = blocks.encode({subjects.ID: last.record.id, subjects.SEQUENCE: str(last.sequence)})
    try:
        connection.publish(reply, encode_record(last.record), block=block)
    except (NotConnected, PayloadTooLarge):
        return  # the record is in the log all the same
