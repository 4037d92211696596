"""A sample of a job's prompts, counted by the API where a key is there."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from typing import Final

from agentflow.errors import AgentFlowError
from agentflow.job.estimate import Counted
from agentflow.job.source import Source, size_of
from agentflow.protocol import task
from agentflow.protocol.subjects import Priority

SAMPLE: Final = 30
"""Prompts that are counted: enough for the mean of texts that are alike."""
WITHIN: Final = 20.0
"""Seconds that an estimate waits for the API."""


def count(source: Source, environ: Mapping[str, str] = os.environ) -> Counted:
    """What a sample of the prompts is, or why it was not counted."""
    if not (environ.get("ANTHROPIC_API_KEY") or environ.get("ANTHROPIC_AUTH_TOKEN")):
        return Counted(why="ANTHROPIC_API_KEY is not set")
    # Imported here: it takes 1.2 s, and who has no key does without.
    from agentflow.handlers.claude import counting

    chosen = frozenset(random.Random(0).sample(range(len(source)), min(SAMPLE, len(source))))
    bodies = [
        item.body
        for at, item in enumerate(source)
        if at in chosen and item.body.kind in (None, "claude")
    ]
    tasks = [task.build(body, {}, "", Priority.NORMAL, "") for body in bodies]

    async def ask() -> counting.Counts:
        async with asyncio.timeout(WITHIN):
            return await counting.count(tasks)

    try:
        counts = asyncio.run(ask())
    except TimeoutError:
        return Counted(why=f"the API did not answer within {WITHIN:g} s")
    except AgentFlowError as error:
        return Counted(why=str(error))
    pairs = [
        (size_of(body), tokens)
        for body, tokens in zip(bodies, counts.tokens, strict=True)
        if tokens is not None
    ]
    return Counted.of(pairs, whole=len(pairs) == len(source), limits=counts.limits, why=counts.why)
