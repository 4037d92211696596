"""JetStream's API as plain requests: store, read, purge, inspect.

nats-py's typed classes drop what they do not know and cost a round trip more here and there; the
API is JSON over request and reply, so this is all that is needed. Reads for decisions come from the
leader (`last`), reads for display may be direct.
"""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from agentflow.bus.streams.pages import sequence_of, stored_ns
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.errors import NoAnswer, NoStream, NotFound, Refused, StreamFull, WrongSequence
from agentflow.protocol import headers as blocks

Json = dict[str, Any]


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct):
    """The server's word that a message is stored, at which sequence of which stream.

    `val` is what a counter says after it.
    """

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    val: str = ""
    error: _ApiError | None = None


class _Stored(msgspec.Struct):
    subject: str
    seq: int
    time: datetime
    data: str = ""
    hdrs: str = ""


class _Got(msgspec.Struct):
    message: _Stored | None = None
    error: _ApiError | None = None


class Stored(msgspec.Struct, frozen=True):
    """A message as a stream holds it."""

    subject: str
    sequence: int
    time: datetime
    data: bytes
    block: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The stored headers."""
        return blocks.decode(self.block) if self.block else {}


_ack = msgspec.json.Decoder(PubAck)
_got = msgspec.json.Decoder(_Got)

_WRONG_SEQUENCE: Final = frozenset({10071, 10164})
_FULL: Final = frozenset({10077})
_NO_STREAM: Final = 10059
LEADERLESS: Final = frozenset({10008, 10009})
"""The cluster has no leader, or a stream has none."""
NOT_OURS: Final = frozenset({10035, 10039, 10076})
"""JetStream is there, but not for this account."""
_MISSING: Final = frozenset({10037, _NO_STREAM, 10014, 10043})


def refusal(code: int, text: str, status: int, what: str) -> Refused:
    """The error for a JetStream err_code."""
    sentence = f"{what}: {text}" + (f" (err_code {code})" if code else "")
    if code in LEADERLESS:
        sentence += "; fewer than half of the cluster's servers reach each other"
    kind: type[Refused] = Refused
    if code in _WRONG_SEQUENCE:
        kind = WrongSequence
    elif code in _FULL:
        kind = StreamFull
    elif code in _MISSING or status == 404:
        kind = NotFound
    return kind(sentence, code=code, status=status)


class JetStream:
    """The JetStream API over a connection. All methods raise NoAnswer, Refused, NotConnected."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.clock_offset = 0.0
        """Seconds to add to this machine's clock to get the server's, as last measured."""
        self._measured: tuple[float, float] | None = None

    def now(self) -> datetime:
        """The server's time: as last measured, and what has passed since.

        Not this machine's clock and an offset: the clock may be set while we run, and a retry would
        then be due an hour late.
        """
        if self._measured is None:
            return datetime.now(UTC)
        server, at = self._measured
        return datetime.fromtimestamp(server + _elapsed() - at, UTC)

    async def store(
        self, subject: str, payload: bytes, block: bytes = b"", timeout: float = 5.0
    ) -> PubAck:
        """Publish into a stream and wait for its PubAck."""
        message = await self.connection.request(subject, payload, block=block, timeout=timeout)
        try:
            ack = _ack.decode(message.data)
        except msgspec.DecodeError:
            ack = PubAck()
        if ack.error is not None:
            raise refusal(ack.error.err_code, ack.error.description, ack.error.code, subject)
        if not ack.seq:
            # A core subscriber answered in the stream's place; whether it is stored is unknown.
            raise NoAnswer(f"what answered on {subject} is not JetStream")
        return ack

    async def api(self, verb: str, body: Json | None = None, timeout: float = 5.0) -> Json:
        """One request to `$JS.API.<verb>`."""
        payload = msgspec.json.encode(body) if body is not None else b""
        try:
            message = await self.connection.request(f"$JS.API.{verb}", payload, timeout=timeout)
        except NoStream:
            where = self.connection.options.shown
            raise NoStream(
                f"JetStream does not answer at {where}; `agentflow doctor` says why"
            ) from None
        try:
            answer = msgspec.json.decode(message.data, type=Json)
        except msgspec.DecodeError:
            raise NoAnswer(f"what answered on $JS.API.{verb} is not JetStream") from None
        error = answer.get("error")
        if error:
            raise refusal(
                error.get("err_code", 0), error.get("description", ""), error.get("code", 0), verb
            )
        return answer

    # Messages.

    async def last(self, stream: str, filter: str, timeout: float = 5.0) -> Stored | None:
        """The last message whose subject matches, read from the stream's leader."""
        return await self._message(stream, {"last_by_subj": filter}, timeout)

    async def get(self, stream: str, sequence: int, timeout: float = 5.0) -> Stored | None:
        """The message at a sequence, read from the stream's leader."""
        return await self._message(stream, {"seq": sequence}, timeout)

    async def next_after(self, stream: str, sequence: int, filter: str) -> Stored | None:
        """The first message at or after a sequence whose subject matches."""
        return await self._message(stream, {"seq": sequence, "next_by_subj": filter}, 5.0)

    async def _message(self, stream: str, body: Json, timeout: float) -> Stored | None:
        message = await self.connection.request(
            f"$JS.API.STREAM.MSG.GET.{stream}", msgspec.json.encode(body), timeout=timeout
        )
        try:
            got = _got.decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NoAnswer(f"what answered for {stream} is not JetStream") from None
        if got.error is not None:
            if got.error.code == 404 and got.error.err_code != _NO_STREAM:
                return None
            raise refusal(got.error.err_code, got.error.description, got.error.code, stream)
        stored = got.message
        if stored is None:
            raise NoAnswer(f"what answered for {stream} is not JetStream")
        return Stored(
            stored.subject,
            stored.seq,
            stored.time,
            base64.b64decode(stored.data),
            base64.b64decode(stored.hdrs) if stored.hdrs else b"",
        )

    async def direct(self, stream: str, subject: str, timeout: float = 5.0) -> Stored | None:
        """The last message of exactly this subject, from any replica: for display only."""
        message = await self.connection.request(
            f"$JS.API.DIRECT.GET.{stream}.{subject}", timeout=timeout
        )
        status, text = blocks.status(message.block)
        if status == 404:
            return None
        if status:
            raise refusal(0, text, status, stream)
        return Stored(subject, sequence_of(message), _time(message), message.data, message.block)

    async def delete(self, stream: str, sequence: int) -> bool:
        """Delete one message; False where it is gone already."""
        try:
            await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except NotFound:
            return False
        except Refused as error:
            if error.code == 10057:  # sequence not found
                return False
            raise
        return True

    async def purge(self, stream: str, filter: str, *, before: int | None = None) -> int:
        """Remove all messages whose subject matches (`before` a sequence); how many there were."""
        bound = {} if before is None else {"seq": before}
        answer = await self.api(f"STREAM.PURGE.{stream}", {"filter": filter, **bound})
        return int(answer.get("purged", 0))

    # Streams and consumers.

    async def stream_info(self, stream: str, **body: Any) -> Json:
        """Configuration and state of a stream; measures the server's clock on the way."""
        before, began = datetime.now(UTC), _elapsed()
        answer = await self.api(f"STREAM.INFO.{stream}", body or None)
        if answer.get("ts"):
            middle = before + (datetime.now(UTC) - before) / 2
            server = msgspec.convert(answer["ts"], datetime, strict=False)
            self.clock_offset = (server - middle).total_seconds()
            self._measured = server.timestamp(), (began + _elapsed()) / 2
        return answer

    async def consumer_info(self, stream: str, consumer: str) -> Json:
        """Configuration and state of a consumer."""
        return await self.api(f"CONSUMER.INFO.{stream}.{consumer}")

    async def delete_consumer(self, stream: str, consumer: str) -> None:
        """Remove a consumer. Raises NotFound where there is none."""
        await self.api(f"CONSUMER.DELETE.{stream}.{consumer}")

    async def consumers(self, stream: str) -> list[Json]:
        """Configuration and state of all consumers of a stream."""
        infos: list[Json] = []
        while True:
            answer = await self.api(f"CONSUMER.LIST.{stream}", {"offset": len(infos)})
            page = answer.get("consumers") or []
            infos += page
            if not page or len(infos) >= answer.get("total", 0):
                return infos


def _elapsed() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(_ELAPSED)


_ELAPSED: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _time(message: Message) -> datetime:
    return datetime.fromtimestamp(stored_ns(message) / 1e9, UTC)
