"""What an isolated run may reach: the API, and nothing else.

It stands outside, at a socket in a folder that the run sees (inside.py is at its other end). An
API over TLS is reached by CONNECT, and by that name and port alone; one without TLS (a simulator, a
gateway of one's own) gets the bytes as they are. Where the worker has a proxy itself, that one is
asked.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from agentflow.errors import UsageError

API: Final = "https://api.anthropic.com"
SOCKET: Final = "outlet"
HEAD: Final = 16_384
WITHIN: Final = 30.0

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Outlet:
    """The way to one API. Raises UsageError where its address cannot be used."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._api = _address("ANTHROPIC_BASE_URL", environ.get("ANTHROPIC_BASE_URL") or API)
        proxy = environ.get("HTTPS_PROXY") or environ.get("HTTPS_PROXY".lower())
        self._proxy = _address("HTTPS_PROXY", proxy) if proxy and self.encrypted else None
        if self._proxy is not None and self._proxy.scheme != "http":
            raise UsageError("an isolated run reaches its API by an http proxy (HTTPS_PROXY)")

    @property
    def encrypted(self) -> bool:
        """Whether the API is spoken to over TLS, which ends in the run."""
        return self._api.scheme == "https"

    @property
    def variable(self) -> str:
        """What tells Claude Code where to ask."""
        return "HTTPS_PROXY" if self.encrypted else f"ANTHROPIC_BASE_URL={self._api.path}"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Path]:
        """Answer at a socket; gives the folder that it is in."""
        # A path of a socket has 108 bytes at most, and a workspace's may be longer.
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="agentflow-"))
        open_: set[asyncio.StreamWriter] = set()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_.add(writer)
            try:
                await self._answer(reader, writer)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                pass  # one of the ends is gone, or asked for something else
            finally:
                open_.discard(writer)
                writer.close()

        server = await asyncio.start_unix_server(answer, str(folder / SOCKET), limit=HEAD)
        try:
            yield folder
        finally:
            server.close()
            for writer in list(open_):
                writer.transport.abort()
            await asyncio.to_thread(shutil.rmtree, folder, True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.encrypted:
            async with asyncio.timeout(WITHIN):
                head = await reader.readuntil(b"\r\n\r\n")
            if head.split(b" ")[:2] != [b"CONNECT", self._target.encode()]:
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                return
        async with asyncio.timeout(WITHIN):
            there = await self._reached()
        if self.encrypted:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_carry(reader, there[1]), _carry(there[0], writer))
        finally:
            there[1].transport.abort()

    @property
    def _target(self) -> str:
        return f"{self._api.hostname}:{_port(self._api)}"

    async def _reached(self) -> Ends:
        if self._proxy is None:
            return await asyncio.open_connection(self._api.hostname, _port(self._api))
        ends = await asyncio.open_connection(self._proxy.hostname, _port(self._proxy))
        words = [f"CONNECT {self._target} HTTP/1.1", f"Host: {self._target}"]
        if self._proxy.username:
            who = f"{unquote(self._proxy.username)}:{unquote(self._proxy.password or '')}"
            words.append(f"Proxy-Authorization: Basic {base64.b64encode(who.encode()).decode()}")
        ends[1].write("\r\n".join((*words, "", "")).encode())
        head = await ends[0].readuntil(b"\r\n\r\n")
        if head.split(b" ")[1:2] != [b"200"]:
            ends[1].transport.abort()
            raise ConnectionRefusedError(head.split(b"\r\n")[0])
        return ends


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
    with suppress(OSError):
        target.write_eof()


def _address(name: str, text: str) -> SplitResult:
    address = urlsplit(text)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise UsageError(f"{name} is no address of a server: {text[:80]!r}")
    return address


def _port(address: SplitResult) -> int:
    return address.port or (443 if address.scheme == "https" else 80)
