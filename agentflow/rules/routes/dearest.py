"""The most that a request may cost, told before it is sent: what a budget holds for it. Pure.

Output is `max_tokens`. Input is weighed by bytes (`tokens_a_byte`, and `overhead` for what the API
adds itself); a picture counts as the largest there are. Each is taken at the dearest price that may
apply: that of writing the cache where the request asks for it, of a long prompt where it may be
one, of a fallback model. Tools that the API runs ask again with what they found, and have fees.

It is a bound for requests of text. How much a tool finds, nobody knows before: `_FOUND` is
generous, and what a request cost beyond it is settled all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from agentflow.protocol.record import Usage
from agentflow.rules.routes.prices import Cost, Detail, Part, Prices, cost
from agentflow.rules.routes.usage import unlisted

TOKENS_A_BYTE: Final = 0.5
"""Of dense text; English has 0.25, and random digits or letters nearly 0.7."""
OVERHEAD: Final = 1_000
"""Tokens that the API adds to a prompt: its own frame, and what explains tools to the model."""
WINDOW: Final = 1_000_000
"""Tokens of the largest prompt that any model takes."""
_PICTURE: Final = 5_000
"""Tokens of the largest picture, as the API scales them."""
_USES: Final = 10
"""Uses of a tool that the API runs, where the request does not say: it pauses the turn then."""
_FOUND: Final = {"web_search": 10_000, "web_fetch": 25_000, "code_execution": 5_000}
"""Tokens that one use of a tool brings into the prompt, by how the tool's type begins."""


class Weight(msgspec.Struct, frozen=True):
    """How large a request is, in what can be counted before it is sent."""

    bytes: int = 0
    pictures: int = 0
    cached: bool = False
    """Whether it may write the cache."""

    def tokens(self, a_byte: float = TOKENS_A_BYTE, overhead: int = OVERHEAD) -> int:
        """Tokens of its prompt, at most."""
        return min(WINDOW, overhead + self.pictures * _PICTURE + int(self.bytes * a_byte) + 1)


def weigh(arguments: Mapping[str, Any]) -> Weight:
    """The weight of a request, by the arguments of messages.create."""
    size = pictures = 0
    cached = False
    waiting: list[Any] = [
        value for name, value in arguments.items() if name not in ("extra_headers", "model")
    ]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            size += len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
        elif isinstance(value, Mapping):
            cached = cached or value.get("cache_control") is not None
            source = value.get("source")
            if value.get("type") == "image" and isinstance(source, Mapping):
                pictures += 1
            else:
                size += sum(map(len, value))
                waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        else:
            size += 8
    return Weight(size, pictures, cached or arguments.get("cache_control") is not None)


def dearest(
    arguments: Mapping[str, Any],
    prices: Prices,
    *,
    a_byte: float = TOKENS_A_BYTE,
    overhead: int = OVERHEAD,
    batch: bool = False,
) -> Cost:
    """The most that a request may cost, live or in a `batch`; without a price where any of it has
    none."""
    weight = weigh(arguments)
    body = {**arguments, **_mapping(arguments.get("extra_body"))}
    output = body.get("max_tokens")
    output = output if isinstance(output, int) and output > 0 else 0
    rounds, found, searches = _tools(body)
    prompt = (weight.tokens(a_byte, overhead) + found) * (rounds + 1)
    # Of a request, `service_tier` says what it would take, and not what it got.
    way = unlisted({name: body.get(name) for name in ("speed", "inference_geo")})
    most = 0
    for model in _models(body):
        for usage, detail in _ways(prompt, output, weight.cached):
            told = msgspec.structs.replace(detail, batch=batch, searches=searches, unlisted=way)
            priced = cost([Part(model, usage, told)], prices)
            if priced.micro is None:
                return priced
            most = max(most, priced.micro)
    for model, uses, tokens in _advisors(body, output):
        asked = Usage(prompt + output, tokens)
        priced = cost([Part(model, asked)] * uses, prices)
        if priced.micro is None:
            return priced
        most += priced.micro
    return Cost(most)


def _ways(prompt: int, output: int, cached: bool) -> Iterator[tuple[Usage, Detail]]:
    """How its tokens may be counted."""
    yield Usage(prompt, output), Detail()
    if cached:
        yield Usage(0, output, prompt), Detail()
        yield Usage(0, output, prompt), Detail(written_1h=prompt)


def _models(body: Mapping[str, Any]) -> list[str]:
    """Who may answer: the model asked, and those that stand in for it."""
    models = [str(body.get("model") or "")]
    fallbacks = body.get("fallbacks")
    for other in fallbacks if isinstance(fallbacks, list) else ():
        name = _mapping(other).get("model") if isinstance(other, Mapping) else other
        if isinstance(name, str) and name:
            models.append(name)
    return models


def _tools(body: Mapping[str, Any]) -> tuple[int, int, int]:
    """Rounds that the API's own tools may add, the tokens they bring at most, paid searches."""
    rounds = found = searches = 0
    for tool in _listed(body.get("tools")):
        kind = str(tool.get("type") or "")
        for begins, tokens in _FOUND.items():
            if kind.startswith(begins):
                uses = _uses(tool)
                rounds += uses
                found += uses * (_number(tool.get("max_content_tokens")) or tokens)
                searches += uses if begins == "web_search" else 0
    return rounds, found, searches


def _advisors(body: Mapping[str, Any], output: int) -> Iterator[tuple[str, int, int]]:
    """Models that the one asked may ask itself: how often, and the tokens of an answer."""
    for tool in _listed(body.get("tools")):
        if str(tool.get("type") or "").startswith("advisor"):
            yield (
                str(tool.get("model") or ""),
                _uses(tool),
                _number(tool.get("max_tokens")) or output,
            )


def _uses(tool: Mapping[str, Any]) -> int:
    return _number(tool.get("max_uses")) or _USES


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _listed(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
