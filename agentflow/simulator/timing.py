"""When the parts of an answer are due."""

from __future__ import annotations

import msgspec

from agentflow.simulator.knobs import Knobs

_MOST_CHUNKS = 20
_CHUNKS_PER_S = 20


class StreamTiming(msgspec.Struct, frozen=True):
    """Seconds from the request: the first byte at `first`, the last token `writing` later.

    A silence of `stall` seconds lies after `stall_after` deltas.
    """

    first: float
    writing: float
    stall: float = 0.0
    stall_after: int = 0

    @property
    def last(self) -> float:
        """When the answer is complete."""
        return self.first + self.writing + self.stall

    def due(self, share: float, deltas: int) -> float:
        """When `share` of the tokens is written and `deltas` deltas have gone before."""
        silence = self.stall if deltas >= self.stall_after else 0.0
        return self.first + self.writing * share + silence


def timing_of(knobs: Knobs, latency: float, output_tokens: int) -> StreamTiming:
    """When the parts of an answer of so many tokens are due."""
    if knobs.tokens_per_s is not None:
        first, writing = latency, output_tokens / knobs.tokens_per_s
    else:
        first, writing = latency * knobs.ttft, latency * (1.0 - knobs.ttft)
    return StreamTiming(first, writing, knobs.stall, knobs.stall_after)


def chunk_count(knobs: Knobs, timing: StreamTiming, output_tokens: int) -> int:
    """How many deltas the answer comes in: never more than tokens, nor than an eye can follow."""
    if knobs.chunks is not None:
        return knobs.chunks
    most = _MOST_CHUNKS
    if knobs.tokens_per_s is not None:
        most = max(most, int(timing.writing * _CHUNKS_PER_S))
    return max(1, min(most, output_tokens))
