"""What a request will cost, by what those before it did. Pure.

Input by the size of its task and a learned ratio (what is read from a cache counts on no limit),
output by a mean, both by kind and job. A mean that follows quickly makes the whole fleet swing with
it, so it follows slowly once it knows something.
"""

from __future__ import annotations

from typing import Final

from agentflow.protocol.record import Usage

BYTES: Final = 4.0
"""Bytes of a task a token of input, before anything was learned."""
FIRST_OUTPUT: Final = 250.0
"""Tokens of an answer, before anything was learned."""
WORTH: Final = 4
"""Answers that the first guess counts for."""
SLOW: Final = 0.003
"""Least gain of a mean."""
QUICK: Final = 0.02
"""Least gain of the ratio: it does not feed back."""
JOBS: Final = 256
"""Kinds and jobs that are known apart."""


class Mean:
    """What one kind of request costs."""

    __slots__ = ("answers", "input", "output", "ratio")

    def __init__(self, output: float = FIRST_OUTPUT, ratio: float = 1.0) -> None:
        self.output = output
        self.ratio = ratio
        self.input = 0.0
        self.answers = 0

    def gain(self, least: float) -> float:
        """How much the next answer counts."""
        return max(least, 1.0 / (self.answers + WORTH))


class Estimates:
    """Expected costs of one route's requests."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], Mean] = {}
        self._all = Mean()

    def _mean(self, key: tuple[str, str]) -> Mean:
        mean = self._means.get(key)
        if mean is None:
            if len(self._means) >= JOBS:
                del self._means[next(iter(self._means))]
            mean = self._means[key] = Mean(self._all.output, self._all.ratio)
        return mean

    def told(self, call: dict[str, float]) -> None:
        """What the others' requests cost, for a worker that has made none."""
        if not self._all.answers and call:
            self._all.output = call.get("output", FIRST_OUTPUT)
            self._all.input = call.get("input", 0.0)

    def cost(self, key: tuple[str, str], size: int, most: int | None) -> dict[str, int]:
        """Of a request with a task of `size` bytes and answers of at most `most` tokens."""
        mean = self._mean(key)
        output = mean.output if most is None else min(mean.output, most)
        return {
            "requests": 1,
            "input": max(1, round(size / BYTES * mean.ratio)),
            "output": max(1, round(output)),
        }

    @property
    def known(self) -> bool:
        """Whether enough answers came to say what one costs."""
        return self._all.answers >= WORTH

    @property
    def call(self) -> dict[str, float]:
        """What a request of any kind costs."""
        return {"requests": 1.0, "input": max(1.0, self._all.input), "output": self._all.output}

    def learn(self, key: tuple[str, str], size: int, usage: Usage) -> None:
        """What a request with a task of `size` bytes came to."""
        counted = counted_input(usage)
        for mean in (self._mean(key), self._all):
            mean.output += mean.gain(SLOW) * (usage.output_tokens - mean.output)
            if counted and size:
                gain = mean.gain(QUICK)
                mean.ratio += gain * (min(8.0, counted * BYTES / size) - mean.ratio)
                mean.input += gain * (counted - mean.input) if mean.input else counted
            mean.answers += 1


def counted_input(usage: Usage) -> int:
    """Input tokens that count on a limit: not what was read from a cache."""
    return usage.input_tokens + usage.cache_creation_input_tokens
