"""Request and reply under NATS's services framework (`nats micro ls`).

Handlers run in tasks of their own: the framework calls an endpoint one request at a time, and
`agentflow.api.run` waits for a whole task.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import nats.micro
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER, Request
from nats.micro.service import Service as MicroService

from agentflow.bus.wire.connection import Connection
from agentflow.errors import AgentFlowError, UsageError
from agentflow.protocol import headers as blocks

_log = logging.getLogger(__name__)

Endpoint = Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]
"""Takes payload and headers, returns the answer; an AgentFlowError becomes an error answer."""


class Service:
    """A named NATS service; its endpoints come back with each new client."""

    def __init__(
        self,
        connection: Connection,
        *,
        name: str,
        version: str,
        description: str,
        endpoints: Mapping[str, Endpoint],
    ) -> None:
        self._connection = connection
        self._name = name
        self._version = version
        self._description = description
        self._endpoints = endpoints
        self._client: object | None = None
        self._service: MicroService | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._unregister: Callable[[], None] | None = None

    async def start(self) -> None:
        """Answer requests from now on."""
        self._unregister = self._connection.on_connect(self._attach)
        await self._attach()

    async def _attach(self) -> None:
        client = self._connection.raw
        if client is self._client:
            return  # nats-py has re-subscribed by itself
        self._client = client
        with warnings.catch_warnings():
            # nats-py 2.16 calls datetime.utcnow.
            warnings.simplefilter("ignore", DeprecationWarning)
            service = await nats.micro.add_service(
                client, name=self._name, version=self._version, description=self._description
            )
        for subject, endpoint in self._endpoints.items():
            await service.add_endpoint(
                name=subject.rsplit(".", 1)[-1], subject=subject, handler=self._handler(endpoint)
            )
        self._service = service
        # Whoever is told that the service has started may ask it over another connection.
        await self._connection.flush()

    def _handler(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[None]]:
        async def handle(request: Request) -> None:
            task = asyncio.get_running_loop().create_task(self._serve(endpoint, request))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        return handle

    async def _serve(self, endpoint: Endpoint, request: Request) -> None:
        try:
            answer = await endpoint(request.data, request.headers or {})
            self._answer(request, answer)
        except AgentFlowError as error:
            code = "400" if isinstance(error, UsageError) else "500"
            self._refuse(request, code, error)
        except Exception as error:
            _log.exception("a request failed")
            self._refuse(request, "500", error)

    def _answer(self, request: Request, data: bytes, block: bytes = b"") -> None:
        # Not by the framework: nats-py closes for good when payload and headers are too large.
        reply = request._msg.reply
        if reply:
            self._connection.publish(reply, data, block=block)

    def _refuse(self, request: Request, code: str, error: Exception) -> None:
        text = " ".join(str(error).split())
        name = type(error).__name__.encode()
        body = b'{"error":{"type":"%s","message":%s}}' % (name, msgspec.json.encode(text))
        block = blocks.encode({ERROR_CODE_HEADER: code, ERROR_HEADER: text[:500]})
        try:
            self._answer(request, body, block)
        except AgentFlowError:
            _log.debug("an answer could not be sent")

    async def stop(self) -> None:
        """Answer no more; requests under way are ended."""
        if self._unregister is not None:
            self._unregister()
        for task in list(self._running):
            task.cancel()
        service, self._service = self._service, None
        if service is not None:
            try:
                async with asyncio.timeout(1.0):
                    await service.stop()
            except Exception:
                _log.debug("the service did not stop in order")
