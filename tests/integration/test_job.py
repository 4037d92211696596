"""A job without the command line: what a gateway or a notebook does."""

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from agentflow.bus.streams.bucket import Board
from agentflow.config import Connect
from agentflow.errors import ResultsLost, UsageError
from agentflow.handlers.contract import Outcome, Run
from agentflow.job.job import TURN, Job
from agentflow.job.source import Reading, Source
from agentflow.job.spec import Ending, Held, JobSpec
from agentflow.protocol.record import Usage
from agentflow.rules.routes import closures
from agentflow.rules.routes.closures import Closed
from tests.integration.conftest import StartWorker
from tests.support.handlers import Gate
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.until import until


class Told:
    """A front end that keeps what it is told."""

    def __init__(self) -> None:
        self.moments: list[str] = []
        self.sentences: list[str] = []
        self.graces: list[float | None] = []
        self.held: list[Held | None] = []

    def begin(self) -> None:
        self.moments.append("begin")

    def end(self) -> None:
        self.moments.append("end")

    def update(self) -> None:
        self.moments.append("update")

    def say(self, text: str) -> None:
        self.sentences.append(text)

    def warn(self, text: str) -> None:
        self.sentences.append(text)

    def waits(self, held: Held | None) -> None:
        self.held.append(held)

    def stopping(self, grace: float | None) -> None:
        self.graces.append(grace)


def tasks(count: int, kind: str) -> Source:
    lines = [json.dumps({"id": f"t{at}", "kind": kind, "prompt": "A"}) for at in range(count)]
    return Source("-", io.BytesIO("\n".join(lines).encode()), Reading())


def spec(server: NatsServer, folder: Path, *, max_cost_micro: int | None = None) -> JobSpec:
    return JobSpec(
        id="a-job",
        results=folder / "results.jsonl",
        connect=Connect(urls=(server.url,)),
        concurrency=1,
        max_cost_micro=max_cost_micro,
    )


async def test_a_front_end_of_ones_own_hears_how_the_job_goes(
    nats_server: NatsServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    await start_worker()
    job, told = Job(spec(nats_server, tmp_path), tasks(3, "echo")), Told()

    assert await job.run(told) is Ending.DONE
    assert (told.moments[0], told.moments[-1]) == ("begin", "end")
    assert told.moments.count("update") >= 3
    assert (job.tally.done, job.tally.failed, told.sentences) == (3, 0, [])
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == ["t0", "t1", "t2"]

    again = Told()
    assert await Job(spec(nats_server, tmp_path), tasks(3, "echo")).run(again) is Ending.DONE
    assert again.moments == []


async def test_few_of_a_long_input_are_run_while_the_loop_has_its_turns(
    nats_server: NatsServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    await start_worker()
    source = tasks(4_000, "echo")
    first, few = (
        msgspec.structs.replace(spec(nats_server, tmp_path), only=only, append=True)
        for only in (range(2), frozenset({3, 3_999}))
    )
    for wanted in (first, few):
        job = Job(wanted, source)
        assert await job.run(Told()) is Ending.DONE
        assert job.tally.done == 2
    left = list(Job(few, source)._left())
    # A million lines in one go would cost the job its connection.
    assert (len(left) - left.count(None), left.count(None)) == (2, 4_000 / TURN)
    assert list(Job(first, source)._left()).count(None) == 1, "nothing is read behind the last"


async def test_a_job_that_is_told_to_stop_says_what_becomes_of_its_tasks(
    nats_server: NatsServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    gate = Gate()
    await start_worker({"gate": gate})
    job, told = Job(spec(nats_server, tmp_path), tasks(2, "gate")), Told()
    running = asyncio.ensure_future(job.run(told))
    await gate.started.wait()

    job.stop()
    job.stop()

    assert await running is Ending.INTERRUPTED
    assert told.graces == [None]
    assert job.tally.done == 0
    gate.opened.set()
    assert await Job(spec(nats_server, tmp_path), tasks(2, "gate")).run(Told()) is Ending.DONE
    assert len(gate.runs) == 2


async def test_a_job_ends_at_its_cost_limit(
    nats_server: NatsServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    async def paid(run: Run) -> Outcome:
        run.usage, run.cost_micro = Usage(input_tokens=10, output_tokens=3), 7
        return Outcome(text="paid")

    await start_worker({"paid": paid})
    job = Job(spec(nats_server, tmp_path, max_cost_micro=10), tasks(5, "paid"))

    assert await job.run(Told()) is Ending.COST_LIMIT
    assert (job.tally.done, job.tally.cost_micro) == (2, 14)


async def test_a_kind_that_no_worker_elsewhere_has_is_told_before_anything_is_submitted(
    nats_server: NatsServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = await start_worker()
    job = Job(spec(nats_server, tmp_path), tasks(2, "cluade"))
    with pytest.raises(UsageError, match="line 1: no worker of this job runs the kind 'cluade'"):
        await job.run(Told())
    assert job.tally.submitted == 0
    assert worker is not None


async def test_the_loss_of_the_results_ends_the_job_at_once(
    nats_server: NatsServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    gate = Gate()
    await start_worker({"gate": gate})
    job = Job(spec(nats_server, tmp_path), tasks(1, "gate"))
    running = asyncio.ensure_future(job.run(Told()))
    await gate.started.wait()
    (tmp_path / "results.jsonl").unlink()

    with pytest.raises(ResultsLost, match=r"results.jsonl is gone"):
        await asyncio.wait_for(running, 5)
    gate.opened.set()
    assert await Job(spec(nats_server, tmp_path), tasks(1, "gate")).run(Told()) is Ending.DONE
    assert len(gate.runs) == 1, "its result is in the log"


async def test_a_job_says_what_its_tasks_wait_for_and_when_that_is_over(
    nats_server: NatsServer, observer: Observer, start_worker: StartWorker, tmp_path: Path
) -> None:
    board = Board(observer.js)
    await board.start()
    now = datetime.now(UTC)
    closed = Closed(
        since=now, until=now + timedelta(hours=1), reason="auth", message="invalid x-api-key"
    )
    await board.change("closed.main.opus", lambda _: closures.encode(closed))
    gate = Gate()
    await start_worker({"gate": gate})
    job, told = Job(spec(nats_server, tmp_path), tasks(1, "gate")), Told()
    running = asyncio.ensure_future(job.run(told))
    await until(lambda: told.sentences)
    assert "tasks wait: pool main.opus is closed until" in told.sentences[0]
    assert "invalid x-api-key" in told.sentences[0]
    assert told.sentences[0].endswith("at once: agentflow resume --pool main.opus")
    await board.change("closed.main.opus", lambda _: None)
    await until(lambda: len(told.sentences) == 2)
    assert told.sentences[1] == "pool main.opus is open again"
    gate.opened.set()
    assert await running is Ending.DONE
