"""Requests that begin alike start so that one writes the API's prompt cache and the others read it.

What a request has up to each of its marks (`cache_control`) is a prefix. The first request of a
prefix that is not cached leads: it goes at once, and the others of that prefix wait until its
answer begins; from then on all go, and read. A leader that ends without an answer leaves the lead
to the next, and one whose answer does not begin for PATIENCE loses it: nobody waits for ever.
Whoever leads has all that it needs and is about to be sent, and it takes all leads at once or none:
leaders wait for nobody.

What is kept is this worker's. Another worker's first request writes what it does not know to be
there, so a fleet writes a prefix at most once a worker. Requests that mark nothing never come here.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

PATIENCE: Final = 60.0
"""Seconds that others wait for a first answer to begin."""
SLACK: Final = 10.0
"""Seconds before the end of its life at which what is cached counts as gone."""
MINUTES: Final = 300.0
HOUR: Final = 3_600.0
MOST: Final = 4_096
"""Prefixes that are remembered; of one that was forgotten somebody leads again."""

_encode = msgspec.json.Encoder().encode

Marks = list[tuple[bytes, float]]
"""Digest and lifetime of each prefix, the shortest first."""


def marks(arguments: Mapping[str, Any]) -> Marks:
    """The prefixes that a request marks; most mark none, and that is found out without hashing."""
    automatic = arguments.get("cache_control") or (arguments.get("extra_body") or {}).get(
        "cache_control"
    )
    blocks = list(_blocks(arguments))
    if automatic is None and not any("cache_control" in block for block in blocks):
        return []
    digest = hashlib.blake2b(str(arguments["model"]).encode(), digest_size=16)
    found: Marks = []
    for at, block in enumerate(blocks):
        mark = block.get("cache_control") or (automatic if at == len(blocks) - 1 else None)
        digest.update(
            _encode({name: block[name] for name in block if name != "cache_control"})
            if "cache_control" in block
            else _encode(block)
        )
        if isinstance(mark, dict):
            lifetime = HOUR if mark.get("ttl") == "1h" else MINUTES
            found.append((digest.digest(), lifetime - SLACK))
    return found


def _blocks(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What a request begins with, in the order in which it is cached."""
    for name in ("tools", "system"):
        given = arguments.get(name)
        if isinstance(given, str):
            yield {"text": given}
        elif isinstance(given, list):
            yield from (block for block in given if isinstance(block, dict))
    for turn in arguments.get("messages") or ():
        said = turn.get("content") if isinstance(turn, dict) else None
        if isinstance(said, str):
            yield {"text": said}
        elif isinstance(said, list):
            yield from (block for block in said if isinstance(block, dict))


class _Prefix:
    __slots__ = ("begun", "leader", "led_until", "warm_until")

    def __init__(self) -> None:
        self.warm_until = 0.0
        self.led_until = 0.0
        self.leader: Lead | None = None
        self.begun = asyncio.Event()


class Lead:
    """A request that may go now. Call `began` when its answer begins, and `end` when it is over."""

    __slots__ = ("_clock", "_lead", "_uses")

    def __init__(
        self, uses: list[tuple[_Prefix, float]], lead: list[_Prefix], clock: Callable[[], float]
    ) -> None:
        self._uses = uses
        self._lead = lead
        self._clock = clock
        until = clock() + PATIENCE
        for prefix in lead:
            prefix.leader, prefix.led_until, prefix.begun = self, until, asyncio.Event()

    @property
    def first(self) -> bool:
        """Whether others wait for it."""
        return bool(self._lead)

    def began(self) -> None:
        """All that it marks is in the cache."""
        now = self._clock()
        for prefix, lifetime in self._uses:
            prefix.warm_until = now + lifetime
        self.end()

    def end(self) -> None:
        """Hold up nobody any more."""
        lead, self._lead = self._lead, []
        for prefix in lead:
            if prefix.leader is self:
                prefix.leader, prefix.led_until = None, 0.0
                prefix.begun.set()


class Prefixes:
    """The prefixes of one credential, as one worker knows them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[bytes, _Prefix] = OrderedDict()

    async def turn(self, marked: Marks) -> Lead:
        """Return when a request with these marks may go."""
        while True:
            uses = [(self._prefix(key), lifetime) for key, lifetime in marked]
            now, cold = self._clock(), []
            for prefix, _ in reversed(uses):
                if prefix.warm_until > now:
                    break  # what is shorter is read with it
                cold.append(prefix)
            led = [prefix for prefix in cold if prefix.led_until > now]
            if not led:
                return Lead(uses, cold, self._clock)
            try:
                async with asyncio.timeout(led[0].led_until - now):
                    await led[0].begun.wait()
            except TimeoutError:
                continue

    def _prefix(self, key: bytes) -> _Prefix:
        prefix = self._known.get(key)
        if prefix is None:
            prefix = self._known[key] = _Prefix()
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return prefix
