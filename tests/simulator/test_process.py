"""The simulator in a process of its own."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path

import pytest

from .conftest import Wire

MODULE = (sys.executable, "-m", "agentflow.simulator")


async def run(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_ends_in_order(
    number: signal.Signals, tmp_path: Path
) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"match": "[late]", "steps": [{"status": 529}]}))
    process = await run(*MODULE, "--port", "0", "--script", str(script), "--seed", "3")
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    found = re.fullmatch(r"simulator listening on http://127\.0\.0\.1:(\d+)\n", line)
    assert found
    wire = Wire(*await asyncio.open_connection("127.0.0.1", int(found[1])))
    prompt = {"role": "user", "content": "Do it [late]"}
    body = {"model": "m", "max_tokens": 9, "messages": [prompt]}
    statuses = [(await wire.ask("POST", "/v1/messages", body)).status for _ in range(2)]
    process.send_signal(number)

    assert await process.wait() == 0
    assert statuses == [529, 200]
    await wire.close()


async def test_a_script_that_means_nothing_ends_it_with_a_sentence(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"steps": [{}, {"status": "bad"}]}')
    process = await run(*MODULE, "--script", str(script))
    _, error = await process.communicate()

    assert process.returncode == 2
    assert error.decode().startswith("simulator: step 2: Expected `int | null`")
    assert b"Traceback" not in error


async def test_it_imports_nothing_heavy() -> None:
    source = (
        "import sys, agentflow.simulator\n"
        "heavy = {'anthropic', 'nats', 'textual', 'aiohttp', 'httpx2', 'click', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    process = await run(sys.executable, "-c", source)
    out, _ = await process.communicate()

    assert out.decode().strip() == "[]"
