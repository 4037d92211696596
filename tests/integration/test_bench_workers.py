"""What the comparison measures with: the tree's CPU, and the hand-made client."""

from __future__ import annotations

import asyncio
import sys

import pytest

from agentflow.simulator import Knobs, Simulator
from bench.instruments import tree
from bench.workers.sse import AnswerBroken, Api

# Burns CPU in a child that ends before anybody looks.
PARENT = """
import subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.4: pass"
subprocess.run([sys.executable, "-c", burn], check=True)
print("burnt", flush=True)
sys.stdin.read()
"""


async def test_cpu_of_processes_that_have_ended_is_counted() -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await parent.stdout.readline() == b"burnt\n"
        assert len(tree.processes(parent.pid)) == 1
        assert tree.cpu_s(parent.pid) >= 0.4
    finally:
        parent.stdin.close()
        await parent.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="PSS is Linux's own")
async def test_a_sampler_looks_while_it_is_open_and_a_last_time() -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import sys; sys.stdin.read()"), stdin=asyncio.subprocess.PIPE
    )
    assert child.stdin is not None
    try:
        async with tree.Sampler(child.pid) as sampler:
            pass
        assert len(sampler.looks) >= 1
        assert all(look.processes == 1 and (look.pss_mb or 0) > 1 for look in sampler.looks)
    finally:
        child.stdin.close()
        await child.wait()


async def test_the_hand_made_client_reads_whole_answers_over_one_connection() -> None:
    async with Simulator(Knobs(text="three rivers")) as simulator:
        api = Api(simulator.url, "any")
        texts = [await api.ask("Name them.") for _ in range(3)]
        assert simulator.stats().connections_total == 1
        await api.close()
    assert len(set(texts)) == 1
    assert "three rivers" in texts[0]


@pytest.mark.parametrize("layer", [{"status": 529}, {"fault": "sse_error"}])
async def test_the_hand_made_client_takes_no_broken_answer(layer: dict[str, object]) -> None:
    async with Simulator() as simulator:
        simulator.set_mode(layer)
        with pytest.raises(AnswerBroken):
            await Api(simulator.url, "any").ask("Name them.")
