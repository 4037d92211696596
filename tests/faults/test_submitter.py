"""A submitter that is killed with a pile half submitted, and one that comes after it."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from agentflow.audit.sources import read_ledger
from tests.support.checker import check
from tests.support.observer import Observer
from tests.support.tools import ROOT
from tests.support.until import until

pytestmark = pytest.mark.timeout(120)

SUBMIT = """
import asyncio, json, sys
import agentflow
from pathlib import Path

async def main(url, ledger, first):
    async with agentflow.connect(url) as client:
        for number in range(first, 100_000):
            name = f"t{number}"
            with Path(ledger).open("a") as file:
                print(json.dumps({"id": name, "acknowledged": False}), file=file)
            await client.submit(kind="sleep", params={"seconds": 0.0}, id=name)
            with Path(ledger).open("a") as file:
                print(json.dumps({"id": name}), file=file)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_a_killed_submitter_loses_nothing_that_was_acknowledged(
    observer: Observer, launch: Any, ready: Any, tmp_path: Path
) -> None:
    url = observer.connection.options.urls[0]
    ledger = tmp_path / "ledger.jsonl"
    script = tmp_path / "submit.py"
    script.write_text(SUBMIT)
    await ready(launch(slots=20))
    first = 0
    for _ in range(3):
        size = ledger.stat().st_size if ledger.exists() else 0
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(script), url, str(ledger), str(first)), cwd=ROOT
        )
        await until(lambda size=size: ledger.exists() and ledger.stat().st_size > size + 5_000)
        process.kill()
        await process.wait()
        lines = read_ledger(ledger.read_text().splitlines())
        # The next one begins with the last: submitted perhaps, and told to nobody.
        first = int(lines[-1].id[1:])
    acknowledged = [line.id for line in lines if line.acknowledged]
    await observer.all_ended(acknowledged, 60)
    await observer.at_rest(30)
    assert len(acknowledged) > 100
    assert await check(observer.js, lines, faults=0) == []
