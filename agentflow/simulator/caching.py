"""The prompt cache, as the Messages API has it.

A request that marks blocks with `cache_control` writes what it has up to each mark; a later one to
the same model that begins with the same bytes reads the longest such part, up to 20 blocks before
a mark of its own. An entry is there once the answer that writes it has begun, never if its client
went before, for five minutes (or an hour) after its last use. What is shorter than LEAST is not
kept. Tools come first, then the system prompt, then the messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from agentflow.simulator import messages

LEAST: Final = 1_024
"""Tokens of the shortest part that is kept."""
BACK: Final = 20
"""Blocks before a mark among which an entry is looked for."""
MINUTES: Final = 300.0
HOUR: Final = 3_600.0
_MOST: Final = 100_000
"""Entries after which those are dropped that are over."""
_MARK: Final = b'"cache_control"'

_encode = msgspec.json.Encoder().encode


class Step(msgspec.Struct, frozen=True):
    """A request up to the end of a block: `lifetime` where a mark stands there, else 0."""

    key: bytes
    tokens: int
    lifetime: float = 0.0


class Cached(msgspec.Struct, frozen=True):
    """What of a request's input was read, and what is written, tokens of five minutes apart."""

    read: int = 0
    written: int = 0
    written_1h: int = 0


NOTHING: Final = Cached()


def steps(body: bytes) -> list[Step]:
    """The blocks of a request, if it marks any."""
    if _MARK not in body:
        return []
    request: dict[str, Any] = msgspec.json.decode(body)
    taken: list[Step] = []
    digest = hashlib.blake2b(str(request.get("model")).encode(), digest_size=16)
    tokens = 0
    for at, (block, size) in enumerate(blocks := list(_blocks(request))):
        mark = block.pop("cache_control", None) if isinstance(block, dict) else None
        if at == len(blocks) - 1:
            mark = mark or request.get("cache_control")
        digest.update(_encode(block))
        tokens += size
        lifetime = 0.0
        if isinstance(mark, dict):
            lifetime = HOUR if mark.get("ttl") == "1h" else MINUTES
        taken.append(Step(digest.digest(), tokens, lifetime))
    return taken if any(step.lifetime for step in taken) else []


def _blocks(request: dict[str, Any]) -> Iterator[tuple[Any, int]]:
    """Each block, and its tokens as `messages.input_tokens` counts them, nearly."""
    for tool in request.get("tools") or ():
        yield tool, len(_encode(tool)) // 4
    system = request.get("system") or ()
    for block in [{"text": system}] if isinstance(system, str) else system:
        yield block, len(_encode(block)) // 4
    for turn in request.get("messages") or ():
        said = turn.get("content")
        for block in [{"type": "text", "text": said}] if isinstance(said, str) else said:
            read = msgspec.json.decode(_encode(block), type=messages.InputBlock)
            yield block, messages.block_tokens(read)


class PromptCache:
    """What is cached, by model and beginning."""

    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[float, float]] = {}
        """From when until when each is there."""

    def look(self, request: list[Step], total: int, now: float) -> Cached:
        """What a request of so many tokens would read and write."""
        if not request:
            return NOTHING
        marks = [at for at, step in enumerate(request) if step.lifetime]
        near = {back for at in marks for back in range(max(0, at - BACK), at + 1)}
        read = max((request[at].tokens for at in near if self._has(request[at], now)), default=0)
        longest = request[marks[-1]]
        end = min(longest.tokens, total) if longest.tokens >= LEAST else 0
        read = min(read, end)
        long = [request[at].tokens for at in marks if request[at].lifetime == HOUR]
        until_long = min(max(long, default=0), end)
        return Cached(read, end - read, max(0, until_long - read))

    def _has(self, step: Step, now: float) -> bool:
        since, until = self._entries.get(step.key, (0.0, 0.0))
        return since <= now < until

    def keep(self, request: list[Step], now: float, begins: float) -> list[bytes]:
        """Keep what it read for longer, and what it writes once its answer begins.

        Returns what is new, for `lose`.
        """
        new = []
        for step in request:
            if not step.lifetime or step.tokens < LEAST:
                continue
            since, until = self._entries.get(step.key, (0.0, 0.0))
            there = now < until
            new += [] if there else [step.key]
            since = min(since, begins) if there else begins
            self._entries[step.key] = (since, max(until, begins + step.lifetime))
        if len(self._entries) > _MOST:
            self._entries = {key: it for key, it in self._entries.items() if it[1] > now}
        return new

    def lose(self, keys: list[bytes], now: float) -> None:
        """Those whose answer never began are not there."""
        for key in keys:
            if self._entries.get(key, (0.0, 0.0))[0] > now:
                del self._entries[key]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
