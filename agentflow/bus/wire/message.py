"""One received message, and the facts in the reply subject of a delivered one."""

from __future__ import annotations

from agentflow.protocol import headers as blocks
from agentflow.protocol.identity import message_identity


class Message:
    """What arrived: subject, reply, payload, and the header block as bytes (empty: no headers)."""

    __slots__ = ("_headers", "block", "data", "reply", "subject")

    def __init__(self, subject: str, reply: str, data: bytes, block: bytes) -> None:
        self._headers: dict[str, str] | None = None
        self.subject = subject
        self.reply = reply
        self.data = data
        self.block = block

    @property
    def headers(self) -> dict[str, str]:
        """The headers; read when first asked for, because most messages are never asked."""
        headers = self._headers
        if headers is None:
            headers = self._headers = blocks.decode(self.block) if self.block else {}
        return headers

    @property
    def status(self) -> int:
        """The status code of a message from the server itself, 0 for others."""
        return blocks.status(self.block)[0] if self.block else 0


class Delivered:
    """A task message from a consumer, with the facts of this delivery.

    `identity` is the same on every delivery; `delivered` counts from 1; `stored_ns` is when the
    stream stored it, by the server's clock.
    """

    __slots__ = ("consumer", "delivered", "identity", "message", "sequence", "stored_ns")

    def __init__(self, message: Message) -> None:
        tokens = message.reply.split(".")
        # Version 2 of the subject has a domain and an account hash before the stream.
        at = 4 if len(tokens) >= 11 else 2
        self.message = message
        self.consumer = tokens[at + 1]
        self.delivered = int(tokens[at + 2])
        self.sequence = int(tokens[at + 3])
        self.stored_ns = int(tokens[at + 5])
        self.identity = message_identity(self.sequence, self.stored_ns)


def is_delivery(message: Message) -> bool:
    """Whether the message came from a consumer (a status does not carry an ack subject)."""
    return message.reply.startswith("$JS.ACK.")
