"""A worker with a policy: what it strikes out is in no record, no live copy, no answer, no log."""

from __future__ import annotations

import pytest

from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import subjects
from agentflow.protocol.record import State, encode
from agentflow.rules.redaction import parse
from tests.integration.conftest import StartWorker
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(45)

SECRET = "me@example.org"


async def test_what_a_policy_finds_leaves_the_worker_nowhere(
    observer: Observer, start_worker: StartWorker
) -> None:
    async def tells(run: Run) -> Outcome:
        run.emit(f"ask {SECRET}")
        await run.progress(0.5, f"asking {SECRET}")
        if run.task.prompt == "fail":
            raise ValueError(f"{SECRET} does not answer")
        return Outcome(text=f"ask {SECRET}", value={"who": SECRET})

    await observer.listen_for_replies("answers")
    policy = parse(r"[a-z]+@[a-z.]+", "policy")
    await start_worker({"tells": tells}, redaction=policy)
    for name, prompt in (("good", "ask"), ("bad", "fail")):
        task = {"kind": "tells", "prompt": prompt, "id": name, "max_attempts": 1}
        await observer.submit(task, {subjects.REPLY: "answers"})
    good, bad = await observer.ended("good"), await observer.ended("bad")
    assert (good.state, good.text) == (State.SUCCEEDED, "ask [redacted]")
    assert good.value == {"who": "[redacted]"}
    assert bad.error is not None
    assert "[redacted] does not answer" in bad.error.message
    await observer.until(lambda: len(observer.replies) == 2)
    await observer.at_rest()
    assert observer.tokens == {}
    letter = await observer.dead("bad")
    assert letter is not None
    heard = [reply.data for reply in observer.replies] + [letter.block]
    for task_id in ("good", "bad"):
        heard += [encode(entry.record) for entry in observer.live[task_id] if entry.record]
    assert not [data for data in heard if SECRET.encode() in data]
