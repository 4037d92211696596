"""Every way in which the Messages API fails, all at once, on the real handler and the real SDK."""

import asyncio
import json
import random
import urllib.request
from typing import Any

import pytest

from agentflow.audit.sources import ask_simulator
from agentflow.protocol import subjects
from tests.faults.conftest import Scale
from tests.support.checker import check, logs
from tests.support.ledger import Ledger
from tests.support.observer import Observer
from tests.support.parts import Parts

pytestmark = pytest.mark.timeout(300)

FAULTS: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 529, "error_type": "overloaded_error"},
    {"status": 503, "fault": "html"},
    {"status": 429, "retry_after": 1},
    {"fault": "drop"},
    {"fault": "reset"},
    {"fault": "drop_mid"},
    {"fault": "truncated_json"},
    {"fault": "malformed_sse"},
    {"fault": "sse_error"},
]


def tell(claude: str, verb: str, body: Any) -> None:
    request = urllib.request.Request(
        f"{claude}/_fake/{verb}", data=json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


async def test_a_storm_of_faults_ends_every_task_once_and_pays_for_no_second_answer(
    observer: Observer, ledger: Ledger, parts: Parts, scale: Scale
) -> None:
    chance = random.Random(7)
    claude = await parts.simulator()
    url = observer.connection.options.urls[0]
    environment = {"ANTHROPIC_BASE_URL": claude, "ANTHROPIC_API_KEY": "simulated"}
    worker = parts.start(
        *("worker", "--kinds", "claude", "--lease", "2", "-c", "30", "--nats", url), **environment
    )
    await worker.says("slots on")
    stop = asyncio.Event()

    async def weather() -> None:
        while not stop.is_set():
            fault = {**chance.choice(FAULTS), "p": 0.5}
            await asyncio.to_thread(tell, claude, "mode", fault)
            await asyncio.sleep(0.4)
        await asyncio.to_thread(tell, claude, "mode", {})

    storm = asyncio.create_task(weather())
    for number in range(scale(60, 600)):
        body = {"id": f"t{number}", "prompt": f"Task {number}", "max_attempts": 20}
        await ledger.insist(body)
        await asyncio.sleep(0.05)
    stop.set()
    await storm
    await observer.all_ended(ledger.ids, 120)
    await observer.at_rest(30)

    async def fired() -> bool:
        return await observer.messages(subjects.SCHEDULE) == 0

    await observer.becomes(fired, 40)
    lasts = [log[-1].record for log in (await logs(observer.js)).values()]
    succeeded = [last for last in lasts if last and last.state == "succeeded"]
    # Some faults are tried again a few times only, whatever the task allows: those may fail.
    assert len(succeeded) > len(lasts) / 2
    calls = await asyncio.to_thread(ask_simulator, claude)
    assert await check(observer.js, ledger.ids, faults=0) == []
    assert len(calls.requests) > len(lasts)  # there was a storm
    answered = {call.request_id for call in calls.requests if call.status == 200}
    assert {last.request_id for last in succeeded} <= answered
