"""One request as a route sees it: its parameters and body as Structs, and who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_origin, get_type_hints

import msgspec
from aiohttp import web

from agentflow.gateway.http.problems import Refusal
from agentflow.protocol import limits
from agentflow.rules.authority import Identity

if TYPE_CHECKING:
    from agentflow.gateway.gateway import Gateway

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

BODY_MOST: Final = limits.MIB * 4
BODY_WITHIN: Final = 30.0
"""Seconds in which a body of at most `BODY_MOST` must have come."""
JSON: Final = "application/json"
_HEADERS: Final = {
    "Content-Type": JSON,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "agentflow",
}

_encoder = msgspec.json.Encoder()


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A value as a response of JSON."""
    return web.Response(
        status=status,
        body=_encoder.encode(value),
        headers={**_HEADERS, **headers} if headers else _HEADERS,
    )


class Call:
    """A request, the gateway that got it, and the identity that makes it."""

    __slots__ = ("gateway", "name", "request", "who")

    def __init__(
        self, gateway: Gateway, request: web.BaseRequest, who: Identity, name: str = ""
    ) -> None:
        self.gateway = gateway
        self.request = request
        self.who = who
        self.name = name
        """The part of the path that names a thing."""

    @property
    def cors(self) -> dict[str, str]:
        """The headers of a response to a page elsewhere that is listed; none for any other."""
        return cors(self.request, self.gateway.settings.origins)

    def header(self, name: str) -> str | None:
        """A header of the request."""
        return self.request.headers.get(name)

    def query(self, model: type[S]) -> S:
        """The parameters of the URL. Raises Refusal naming the one at fault."""
        given = self.request.query
        if not given:
            return model()
        lists = _lists(model)
        values = {name: given.getall(name) if name in lists else given[name] for name in given}
        try:
            return msgspec.convert(values, model, strict=False)
        except msgspec.ValidationError as error:
            known = ", ".join(field.encode_name for field in msgspec.structs.fields(model))
            raise Refusal(400, f"the query: {error}; known are {known or 'none'}") from None

    async def body(self, decoder: msgspec.json.Decoder[T], most: int = BODY_MOST) -> T:
        """The JSON of the body. Raises Refusal."""
        if (kind := self.request.content_type) != JSON:
            raise Refusal(415, f"the body is {kind}; send it as {JSON}")
        data = await self.read(most)
        try:
            return decoder.decode(data)
        except msgspec.ValidationError as error:
            raise Refusal(422, f"the body: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, f"the body is no JSON: {error}") from None
        except RecursionError:
            raise Refusal(400, "the JSON of the body is nested too deeply") from None

    async def read(self, most: int = BODY_MOST) -> bytes:
        """The body, of at most so many bytes. Raises Refusal."""
        request = self.request
        if (length := request.content_length) is not None and length > most:
            raise too_large(most)
        content = request.content
        if content.is_eof():
            return await content.read()
        data = bytearray()
        try:
            async with asyncio.timeout(BODY_WITHIN * max(1, most // BODY_MOST)):
                async for chunk, _ in content.iter_chunks():
                    data += chunk
                    if len(data) > most:
                        raise too_large(most)
        except TimeoutError:
            raise Refusal(408, "the body did not come in time") from None
        return bytes(data)


def cors(request: web.BaseRequest, origins: Collection[str]) -> dict[str, str]:
    """Headers that let a listed page read the response."""
    origin = request.headers.get("Origin") if origins else None
    if origin is None or origin not in origins:
        return {}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def too_large(most: int) -> Refusal:
    """The refusal of a body with more bytes."""
    return Refusal(413, f"the body is larger than {most:,} bytes", headers={"Connection": "close"})


@lru_cache(maxsize=64)
def _lists(model: type) -> frozenset[str]:
    hints = get_type_hints(model)
    return frozenset(name for name, kind in hints.items() if get_origin(kind) is list)
