"""Requests to a gateway: problems become our errors, and streams of events come again."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Self, TypeVar

import aiohttp
import msgspec

from agentflow import errors
from agentflow.errors import (
    AgentFlowError,
    BusError,
    InvalidTask,
    NotConnected,
    PermissionDenied,
    StreamFull,
    UsageError,
)

T = TypeVar("T")

URL: Final = "AGENTFLOW_URL"
TOKEN: Final = "AGENTFLOW_URL_TOKEN"
CONNECT_WITHIN: Final = 10.0
SILENT: Final = 45.0
"""Seconds without a word, comments that keep it alive among them, after which a stream is dead."""
_JSON: Final = {"Content-Type": "application/json"}
_encoder = msgspec.json.Encoder()


class _Problem(msgspec.Struct):
    type: str = ""
    detail: str = ""
    task_id: str = ""


class Answer(msgspec.Struct, frozen=True):
    """A response that is no problem."""

    status: int
    body: bytes

    def read(self, kind: type[T]) -> T:
        """The body. Raises BusError."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BusError(f"the gateway's answer cannot be read: {error}") from None


class Told(msgspec.Struct, frozen=True):
    """A server-sent event."""

    event: str
    data: bytes
    id: str


class Wire:
    """One gateway. All methods raise AgentFlowError."""

    def __init__(self, url: str, environ: Mapping[str, str] = os.environ) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{URL} is the URL of a gateway, such as https://flow.example.com")
        self.url = url.rstrip("/")
        token = environ.get(TOKEN)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN)
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=timeout, trust_env=True
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A request and its answer. Raises NotConnected where the gateway cannot be reached."""
        assert self._session is not None
        options: dict[str, Any] = {"params": query or {}, "headers": dict(headers or {})}
        if body is not None:
            options["data"] = _encoder.encode(body)
            options["headers"] |= _JSON
        try:
            async with self._session.request(method, self.url + path, **options) as response:
                data = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreached(error) from None
        if response.status >= 400:
            raise problem(response.status, data)
        return Answer(response.status, data)

    def _unreached(self, error: Exception) -> NotConnected:
        return NotConnected(
            f"the gateway {self.url} cannot be reached: {str(error) or type(error).__name__}"
        )

    async def events(
        self, path: str, query: Mapping[str, Any], *, after: str = ""
    ) -> AsyncGenerator[Told]:
        """The events of a stream, which is opened again where it breaks, behind the last one."""
        pause = 0.2
        while True:
            try:
                async for told in self._stream(path, query, after):
                    after = told.id or after
                    pause = 0.2
                    if told.event == "end":
                        return
                    if told.event != "dropped":
                        yield told
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                if pause > 10:
                    raise self._unreached(error) from None
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause *= 2

    async def _stream(
        self, path: str, query: Mapping[str, Any], after: str
    ) -> AsyncGenerator[Told]:
        assert self._session is not None
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN, sock_read=SILENT)
        async with self._session.get(
            self.url + path, params=query, headers=headers, timeout=timeout, read_bufsize=2**24
        ) as response:
            if response.status >= 500:
                raise aiohttp.ClientError(f"it answers {response.status}")
            if response.status >= 400:
                raise problem(response.status, await response.read())
            told: dict[bytes, bytes] = {}
            async for line in response.content:
                bare = line.rstrip(b"\n")
                if not bare and b"data" in told:
                    event, id = told.get(b"event", b"").decode(), told.get(b"id", b"").decode()
                    yield Told(event, told[b"data"], id)
                    told = {}
                name, _, value = bare.partition(b": ")
                if name in (b"event", b"data", b"id"):
                    told[name] = value


def problem(status: int, data: bytes) -> AgentFlowError:
    """The error that a problem tells of: the one that it was before it went over HTTP."""
    try:
        told = msgspec.json.decode(data, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = _Problem(detail=f"the gateway answers {status}")
    name = told.type.rpartition(":")[2]
    if name == "IdReused":
        return InvalidTask(told.detail, reason="id_reused")
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, AgentFlowError):
        if issubclass(kind, errors.TaskError):
            return kind(told.detail, task_id=told.task_id)
        return kind(told.detail)
    if status in (401, 403):
        return PermissionDenied(f"{told.detail} ({TOKEN} is the token)")
    if status == 429:
        return StreamFull(told.detail)
    return UsageError(told.detail) if status < 500 else BusError(told.detail)
