"""A simulator in this process, the real SDK in front of it, and a bare socket beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anthropic
import msgspec
import pytest

from agentflow.simulator import Simulator


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Answer:
    """A response as it came over the socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, str]:
        error: dict[str, str] = msgspec.json.decode(self.body)["error"]
        return error


class Wire:
    """One connection, spoken by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Sends a request with a valid key and version unless `headers` are given."""
        self.send(method, path, body, headers)
        return await self.answer(head_only=method == "HEAD")

    def send(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> None:
        self.writer.write(packed(method, path, body, headers))

    async def answer(self, *, head_only: bool = False) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        status = int(head[0].split(" ")[1])
        if head_only:
            return Answer(status, headers, b"")
        if "content-length" in headers:
            return Answer(
                status, headers, await self.reader.readexactly(int(headers["content-length"]))
            )
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return Answer(status, headers, body)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


AUTH = {"x-api-key": "any", "anthropic-version": "2026-10-21"}


def packed(
    method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> bytes:
    """The bytes of a request."""
    data = b"" if body is None else msgspec.json.encode(body)
    lines = {**(AUTH if headers is None else headers), "content-length": str(len(data))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\nhost: local\r\n{head}\r\n".encode() + data


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="simulator")
async def _simulator(clock: Clock) -> AsyncIterator[Simulator]:
    async with Simulator(clock=clock) as simulator:
        yield simulator


@pytest.fixture(name="client")
async def _client(simulator: Simulator) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key="any",
        base_url=simulator.url,
        max_retries=0,
        timeout=5.0,
        _strict_response_validation=True,
    ) as client:
        yield client


@pytest.fixture(name="wire")
async def _wire(simulator: Simulator) -> AsyncIterator[Wire]:
    wire = Wire(*await asyncio.open_connection("127.0.0.1", simulator.port))
    yield wire
    await wire.close()
