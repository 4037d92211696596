"""A client of the Messages API made by hand: one streamed request, nothing else.

No retries, no types, no pool beyond a list of open connections: what it takes is the least that
asking over HTTP from Python takes.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agentflow.handlers.claude.request import DEFAULT_MAX_TOKENS, DEFAULT_MODEL

LIMIT: Final = 1 << 20


class AnswerBroken(Exception):
    """The answer was no whole stream; the text is its beginning."""


class _Delta(msgspec.Struct):
    text: str = ""


class _Event(msgspec.Struct):
    type: str
    delta: _Delta = msgspec.field(default_factory=_Delta)


_EVENT: Final = msgspec.json.Decoder(_Event)

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Api:
    """The Messages API at a plain http:// address, over connections that stay open."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = (
            "POST /v1/messages HTTP/1.1\r\n"
            f"host: {self._host}:{self._port}\r\n"
            f"authorization: Bearer {key}\r\n"
            "anthropic-version: 2023-06-01\r\n"
            "content-type: application/json\r\n"
        )
        self._idle: list[Wire] = []

    @classmethod
    def from_environment(cls) -> Api:
        """The one that the SDK would ask."""
        return cls(os.environ["ANTHROPIC_BASE_URL"], os.environ["ANTHROPIC_API_KEY"])

    async def ask(self, prompt: str) -> str:
        """The answer's text. Raises AnswerBroken, OSError."""
        wire = self._idle.pop() if self._idle else await self._dial()
        try:
            text = await self._ask(wire, prompt)
        except BaseException:
            wire[1].close()  # a broken answer leaves bytes behind
            raise
        self._idle.append(wire)
        return text

    async def close(self) -> None:
        """End the connections that stayed open."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()
        self._idle.clear()

    async def _dial(self) -> Wire:
        return await asyncio.open_connection(self._host, self._port, limit=LIMIT)

    async def _ask(self, wire: Wire, prompt: str) -> str:
        reader, writer = wire
        body = msgspec.json.encode(
            {
                "model": DEFAULT_MODEL,
                "max_tokens": DEFAULT_MAX_TOKENS,
                "stream": True,
                "messages": [{"role": "user", "content": prompt}],
            }
        )
        writer.write(f"{self._head}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise AnswerBroken(head[:200].decode(errors="replace"))
        texts: list[str] = []
        last, rest = "", b""
        while size := int(await reader.readline(), 16):
            rest += (await reader.readexactly(size + 2))[:-2]
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    event = _EVENT.decode(line[5:])
                    last = event.type
                    if last == "content_block_delta":
                        texts.append(event.delta.text)
        await reader.readline()
        if last != "message_stop":
            raise AnswerBroken(f"it ended with {last!r}")
        return "".join(texts)
