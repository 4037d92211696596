"""A lifelike load for a demonstration: what four teams might ask in a day, in minutes.

Nothing of it is real: the answers come from the simulator, and every prompt says so. Rates follow
`PHASES` round and round; what a task is, `SHAPES`; what goes wrong with it, `MISHAPS`. The same
seed gives the same tasks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from agentflow.client import Client, TaskHandle
from agentflow.errors import AgentFlowError

_log = logging.getLogger(__name__)

QUEUES: Final = ("default", "review", "research", "docs")
UNSERVED: Final = "archive"
"""A few tasks go where no worker looks: a dashboard should say so."""
TICK: Final = 0.25
ANSWERS: Final = {
    "latency": {"kind": "lognormal", "p50": 1.2, "p99": 9.0},
    "tokens_per_s": 60,
    "limits": {"requests": 900, "input_tokens": 400_000, "output_tokens": 120_000},
}
"""How the simulator answers: times in seconds, limits a minute."""

OPUS, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"


class Phase(NamedTuple):
    """So many seconds with so many tasks a second, after `burst` tasks at once.

    `pause` names a queue that is paused meanwhile.
    """

    seconds: float
    rate: float
    burst: int = 0
    pause: str | None = None


PHASES: Final = (
    Phase(20, 3),
    Phase(12, 7),
    Phase(15, 2, burst=60),
    Phase(15, 4, pause="docs"),
    Phase(8, 0.5),
    Phase(20, 5),
    Phase(10, 1, burst=25),
)


class Shape(NamedTuple):
    """One sort of task; `weight` says how often it comes among the others."""

    weight: float
    queue: str
    team: str
    project: str
    prompts: Sequence[str]
    model: str = SONNET
    priorities: Sequence[str] = ("normal",)


SHAPES: Final = (
    Shape(
        4,
        "default",
        "support",
        "inbox",
        (
            "Classify the customer's letter about a late parcel",
            "Answer the question about changing an invoice address",
            "Summarise the telephone call about the broken heating",
        ),
        HAIKU,
        ("high", "normal", "normal"),
    ),
    Shape(
        3,
        "review",
        "platform",
        "gateway",
        (
            "Review the change of the retry table in the payment service",
            "Look for missing deadlines in the order worker",
            "Explain why the migration of the accounts table locks for so long",
        ),
    ),
    Shape(
        1.5,
        "research",
        "science",
        "proteins",
        (
            "Compare three ways to fold a short peptide and say which to try first",
            "Collect what is known about the stability of the enzyme above 60 degrees",
        ),
        OPUS,
        ("normal", "low"),
    ),
    Shape(
        2.5,
        "docs",
        "writers",
        "handbook",
        (
            "Translate the chapter about backups into plain Danish",
            "Rewrite the installation page for people who have no terminal",
            "Find sentences of more than thirty words in the release notes",
        ),
        priorities=("normal", "low", "low"),
    ),
)


class Mishap(NamedTuple):
    """What a share of the tasks meets, as steps of the simulator (simulator/knobs.py)."""

    share: float
    steps: Sequence[dict[str, Any]]
    max_attempts: int | None = None


_TOO_LONG: Final = "prompt is too long: SIMULATED 212,480 tokens > 200,000 maximum"
_NO_IMAGE: Final = "messages.0.content.1.image: SIMULATED could not be decoded"

MISHAPS: Final = (
    Mishap(0.03, [{"status": 529}]),
    Mishap(0.02, [{"status": 500}]),
    Mishap(0.01, [{"fault": "drop_mid"}]),
    Mishap(0.004, [{"status": 429, "retry_after": 3}]),
    Mishap(0.02, [{"status": 400, "error_message": _TOO_LONG}]),
    Mishap(0.01, [{"status": 400, "error_message": _NO_IMAGE}]),
    Mishap(0.012, [{"status": 500}, {"status": 500}], max_attempts=2),
    Mishap(0.02, [{"content": "max_tokens"}]),
    Mishap(0.008, [{"content": "refusal"}]),
)

LATER: Final = 0.03
"""Share of the tasks that may start only later."""
SLEEPS: Final = 0.04
ECHOES: Final = 0.04
CANCELLED: Final = 0.01
NOBODY: Final = 0.004


class Load:
    """Submits until it is cancelled."""

    def __init__(self, client: Client, simulator: str, *, seed: int = 1) -> None:
        self._client = client
        self._simulator = simulator
        self._random = random.Random(seed)
        self._number = 0
        self._side: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Phase by phase, for ever. A submission that fails is logged and left out."""
        await asyncio.to_thread(self._tell, "mode", ANSWERS)
        try:
            while True:
                for phase in PHASES:
                    await self._phase(phase)
        finally:
            for task in self._side:
                task.cancel()

    async def _phase(self, phase: Phase) -> None:
        if phase.pause is not None:
            await self._try(self._client.pause(phase.pause, reason="stock-taking"))
        await self._submit(phase.burst)
        due = 0.0
        for _ in range(round(phase.seconds / TICK)):
            due += self._random.expovariate(1.0) * phase.rate * TICK
            await self._submit(int(due))
            due -= int(due)
            await asyncio.sleep(TICK)
        if phase.pause is not None:
            await self._try(self._client.resume(phase.pause))

    async def _submit(self, count: int) -> None:
        await asyncio.gather(*(self._try(self._one()) for _ in range(count)))

    async def _try(self, work: Awaitable[object]) -> None:
        try:
            await work
        except (AgentFlowError, OSError) as error:
            _log.warning("the demonstration's load: %s", error)

    async def _one(self) -> None:
        chance = self._random
        self._number += 1
        shape = chance.choices(SHAPES, [shape.weight for shape in SHAPES])[0]
        case = f"case {self._number:05}"
        options: dict[str, Any] = {
            "queue": UNSERVED if chance.random() < NOBODY else shape.queue,
            "priority": chance.choice(shape.priorities),
            "labels": {"team": shape.team, "project": shape.project},
        }
        prompt = f"{chance.choice(shape.prompts)} (SIMULATED {case})"
        if chance.random() < LATER:
            seconds = chance.uniform(10, 90)
            options["not_before"] = datetime.now(UTC) + timedelta(seconds=seconds)
        what = chance.random()
        if what < SLEEPS:
            options |= {"kind": "sleep", "params": {"seconds": round(chance.uniform(2, 30), 1)}}
        elif what < SLEEPS + ECHOES:
            options |= {"kind": "echo", "prompt": prompt}
        else:
            options |= {"prompt": prompt, "model": shape.model}
            options |= await self._prepared(case)
        handle = await self._client.submit(**options)
        if chance.random() < CANCELLED:
            self._aside(lambda: self._cancel(handle, chance.uniform(1, 6)))

    async def _prepared(self, case: str) -> dict[str, Any]:
        """What goes wrong with a task is told to the simulator before it can meet it."""
        draw = self._random.random()
        for mishap in MISHAPS:
            draw -= mishap.share
            if draw < 0:
                script = {"match": case, "steps": list(mishap.steps)}
                await asyncio.to_thread(self._tell, "script", script)
                attempts = mishap.max_attempts
                return {} if attempts is None else {"max_attempts": attempts}
        return {}

    async def _cancel(self, handle: TaskHandle, after: float) -> None:
        await asyncio.sleep(after)
        await self._try(self._client.cancel(handle.id))

    def _aside(self, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await work()

        task = asyncio.create_task(run(), name="demonstration")
        self._side.add(task)
        task.add_done_callback(self._side.discard)

    def _tell(self, what: str, value: object) -> None:
        # Without a handler for proxies: the simulator is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(
            f"{self._simulator}/_fake/{what}", json.dumps(value).encode(), method="POST"
        )
        with opener.open(request, timeout=5) as answer:
            answer.read()
