"""Who may continue a log: what came out of AGENTFLOW_SCHEDULE, and by hand what has failed."""

from __future__ import annotations

import contextlib

import pytest

from agentflow.bus.streams.pages import page
from agentflow.errors import Refused
from agentflow.protocol import headers, subjects
from agentflow.protocol.record import State
from agentflow.rules import claim
from tests.integration.conftest import StartWorker
from tests.support.ghost import GHOST, claimed_by_ghost, follower
from tests.support.handlers import opened
from tests.support.observer import Observer
from tests.unit.test_headers import FORGED

pytestmark = pytest.mark.timeout(45)

INTRUDER = b'{"kind": "gate", "prompt": "mine instead"}'
REFUSED = 10227
"""Of a client that says where its message is sourced from."""


def following(sequence: int, *more: bytes) -> bytes:
    lines = (b"Agentflow-Id: it", b"Agentflow-Follows: %d" % sequence, *more)
    return b"NATS/1.0\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"


async def test_only_the_server_says_that_a_message_is_scheduled(observer: Observer) -> None:
    store = observer.js.store
    for lines in FORGED.values():
        lines = lines.replace(b"S 1", b"AGENTFLOW_SCHEDULE 1")
        with contextlib.suppress(Refused):
            await store(subjects.task("forged"), b"x", following(7, lines))
    plain = following(7, b"Nats-Stream-Source: AGENTFLOW_SCHEDULE 1")
    with pytest.raises(Refused) as refused:
        await store(subjects.task("forged"), b"x", plain)
    assert refused.value.code == REFUSED
    await store(subjects.due("forged", "normal"), b"x", following(7))

    async def sourced() -> bool:
        return (await observer.js.last(subjects.TASKS, "agentflow.tasks.forged.normal")) is not None

    await observer.becomes(sourced)
    stored = await page(observer.connection, subjects.TASKS, 1)
    told = [headers.sourced(message.block, subjects.SCHEDULE) for message in stored.messages]
    assert len(told) > len(FORGED) // 2
    assert told == [False] * (len(told) - 1) + [True]


@pytest.mark.parametrize("state", [State.RUNNING, State.QUEUED, State.SCHEDULED, State.RETRYING])
@pytest.mark.parametrize("ahead", [0, 9_999_999_999])
async def test_who_may_submit_takes_over_nothing_that_has_not_failed(
    observer: Observer,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    state: State,
    ahead: int,
) -> None:
    """He names the last record, which he may have read, or one that is still to come."""
    monkeypatch.setattr(claim, "AGAIN_AFTER", 0.01)
    end = await claimed_by_ghost(observer)
    log = observer.log_as(GHOST)
    if state != State.RUNNING:
        end = await log.append(follower(observer, end, state, resume_at=log.now(), reason="x"))
    await observer.submit(INTRUDER, block=following(end.sequence + ahead))
    gate = opened()
    await start_worker({"gate": gate})
    ended = await observer.ended("it")
    await observer.at_rest()
    assert ended.state == State.SUCCEEDED
    (run,) = gate.runs
    assert run.task.prompt != "mine instead"
