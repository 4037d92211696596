"""The bare streaming SDK in one process or several: the yardstick of `bench claude`.

Nothing but the SDK: no queue, no records, no retries of ours. Several processes are forked from one
that has imported the SDK and frozen it, as a worker's are, and each has its share of the calls and
of the places in flight; a share is fixed before the start, so nothing is coordinated.

`python -m bench.claude.sdk URL PROCESSES CALLS IN_FLIGHT` says `ready`; then each line on
stdin is a round, answered by a line of JSON: the makespan and the seconds of every call.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import anthropic

from agentflow.handlers.claude.request import DEFAULT_MAX_TOKENS, DEFAULT_MODEL
from bench.claude.load import WARM, shares


class Caller:
    """One process: its client, and its share of each round."""

    def __init__(self, url: str, prompts: list[str], in_flight: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = anthropic.AsyncAnthropic(base_url=url, api_key="simulated")
        self._prompts = prompts
        self._in_flight = in_flight

    def warm(self) -> None:
        """Open the connections."""

        async def all_of_them() -> None:
            await asyncio.gather(*(self._call("warm", WARM) for _ in range(self._in_flight)))

        self._loop.run_until_complete(all_of_them())

    def round(self) -> list[float]:
        """Seconds of each call; as many at once as it has places."""
        return self._loop.run_until_complete(self._round())

    async def _round(self) -> list[float]:
        prompts = iter(self._prompts)
        times: list[float] = []

        async def place(prompts: Iterator[str]) -> None:
            for prompt in prompts:
                began = time.perf_counter()
                await self._call(prompt)
                times.append(time.perf_counter() - began)

        await asyncio.gather(*(place(prompts) for _ in range(self._in_flight)))
        return times

    async def _call(self, prompt: str, knobs: str = "") -> str:
        """One answer, as cheaply as the SDK streams it: raw events, text put together."""
        stream = await self._client.messages.create(
            model=DEFAULT_MODEL,
            max_tokens=DEFAULT_MAX_TOKENS,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            extra_headers={"x-fake": knobs} if knobs else None,
        )
        parts = []
        async with stream:
            async for event in stream:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    parts.append(event.delta.text)
        return "".join(parts)


def _child(pipe: Connection, url: str, share: tuple[list[str], int]) -> None:
    caller = Caller(url, *share)
    caller.warm()
    pipe.send(None)
    while pipe.recv():
        pipe.send(caller.round())


def _rounds(url: str, split: list[tuple[list[str], int]]) -> Iterator[list[float]]:
    """Warm, then at each step the times of a round; the first step is the warming."""
    if len(split) == 1:
        caller = Caller(url, *split[0])
        caller.warm()
        yield []
        while True:
            yield caller.round()
    forking = multiprocessing.get_context("fork")
    pipes = []
    for share in split:
        ours, theirs = forking.Pipe()
        forking.Process(target=_child, args=(theirs, url, share), daemon=True).start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    yield []
    while True:
        for pipe in pipes:
            pipe.send(True)
        yield [seconds for pipe in pipes for seconds in pipe.recv()]


def main(url: str, processes: int, calls: int, in_flight: int) -> None:
    """Serve rounds until stdin ends."""
    gc.collect()
    gc.freeze()
    rounds = _rounds(url, shares(calls, in_flight, processes))
    next(rounds)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        times = next(rounds)
        answer: dict[str, Any] = {"makespan_s": time.perf_counter() - began, "times": times}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
