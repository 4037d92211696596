"""The metrics of real workers and masters, read as Prometheus reads them, and their page."""

import asyncio
import contextlib
import json
import os
import re
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agentflow.errors import PortTaken
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import batches, subjects
from agentflow.protocol.batches import Row, RowState
from agentflow.protocol.record import EMPTY, Usage
from agentflow.rules import records as entries
from agentflow.rules.records import Origin, Spent
from agentflow.rules.retry import Signal
from agentflow.rules.routes import budgets
from agentflow.rules.routes import clock as clocks
from agentflow.rules.routes.budgets import Budget, Holder
from agentflow.rules.routes.route import Route
from agentflow.telemetry.labels import Words
from agentflow.telemetry.metrics import (
    REQUESTS,
    Figures,
    GatewayMetrics,
    MasterMetrics,
    WorkerMetrics,
    served,
)
from tests.integration.conftest import StartWorker
from tests.support.handlers import Gate, failing
from tests.support.masters import a_master, ready
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/observability.md").read_text()


class Link:
    """What metrics want of a connection."""

    reconnects = 0


async def get(port: int, request: str = "GET /metrics HTTP/1.1") -> tuple[str, str]:
    """Status line and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{request}\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head.split("\r\n")[0], body


async def scrape(port: int) -> dict[str, float]:
    """Every sample, as `name{label="value",...}` with the labels in order."""
    status, body = await get(port)
    assert status == "HTTP/1.1 200 OK"
    found = {}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def of_worker(link: Link | None = None) -> WorkerMetrics:
    return WorkerMetrics(link or Link(), lambda: Figures(4, 1, 2), actor="w-1")


def of_master() -> MasterMetrics:
    async def queues() -> dict[str, object]:
        return {}

    async def bucket() -> dict[str, bytes]:
        return {}

    return MasterMetrics(
        Link(),
        actor="m-1",
        leads=lambda: True,
        workers=lambda: (1, 0),
        queues=queues,  # type: ignore[arg-type]
        bucket=bucket,
        now=lambda: datetime.now(UTC),
    )


async def spend(run: Run) -> Outcome:
    run.usage = Usage(input_tokens=10, output_tokens=3, cache_read_input_tokens=-1)
    run.model = "m-1"
    run.cost_micro = 7 if run.task.params.get("priced", True) else None
    return Outcome(text="done")


async def test_a_worker_counts_what_it_wrote(observer: Observer, start_worker: StartWorker) -> None:
    gate, link = Gate(), Link()
    kinds = {"gate": gate, "spend": spend, "flaky": failing(Signal(status=529), times=1)}
    worker = await start_worker(kinds, slots=4, unknown_kind_for=0.0)
    metrics = WorkerMetrics(
        link,
        lambda: Figures(worker.slots, worker.running, worker.gate_held),
        actor=worker.actor.name,
    )
    worker.observe(metrics)

    async def only_one_runs() -> bool:  # a record is seen before the worker has done with it
        return worker.running == 1

    tasks = {
        "held": {"kind": "gate"},
        "paid": {"kind": "spend"},
        "unknown-price": {"kind": "spend", "params": {"priced": False}},
        "again": {"kind": "flaky"},
        "nobody-s": {"kind": "nowhere"},
    }
    async with served(metrics, ("127.0.0.1", 0)) as port:
        for task_id, task in tasks.items():
            await observer.submit({"id": task_id, "prompt": "x", **task})
        for task_id in list(tasks)[1:]:
            await observer.ended(task_id)
        await gate.started.wait()
        await observer.becomes(only_one_runs)
        link.reconnects = 2
        during = await scrape(port)
        gate.opened.set()
        await observer.ended("held")
        await observer.at_rest()
        after = await scrape(port)
    assert (during["agentflow_running"], during["agentflow_slots"]) == (1, 4)
    assert (after["agentflow_running"], after["agentflow_gate_held"]) == (0, 0)
    assert after["agentflow_nats_reconnects_total"] == 2

    def told(kind: str, state: str) -> float | None:
        return after.get(f"agentflow_tasks_total{{kind={kind},queue=default,state={state}}}")

    assert told("gate", "succeeded") == 1
    assert told("spend", "succeeded") == 2
    assert (told("flaky", "retrying"), told("flaky", "succeeded")) == (1, 1)
    assert told("nowhere", "failed") == 1
    assert after["agentflow_task_seconds_count{kind=flaky}"] == 2
    assert after["agentflow_task_queue_seconds_count{queue=default}"] == 4
    assert after["agentflow_tokens_total{direction=input,model=m-1}"] == 20
    assert after["agentflow_cost_usd_total{model=m-1}"] == pytest.approx(0.000007)
    assert after["agentflow_unpriced_attempts_total{model=m-1}"] == 1
    failures = {name: value for name, value in after.items() if "attempt_failures_total" in name}
    assert failures == {
        "agentflow_attempt_failures_total{reason=overloaded}": 1,
        "agentflow_attempt_failures_total{reason=unknown_kind}": 1,
    }


async def test_a_master_tells_queues_and_workers(
    observer: Observer, start_worker: StartWorker, nats_server: NatsServer
) -> None:
    worker = await start_worker({}, queues=("default",))
    for _ in range(3):
        await observer.submit({"prompt": "x"}, subject="agentflow.tasks.unserved")
    await observer.submit({"prompt": "x"}, subject="agentflow.tasks.unserved.high")
    async with a_master(nats_server.url) as master:
        await ready(master)
        metrics = master.metrics()
        async with served(metrics, ("127.0.0.1", 0)) as port:
            worker.actor.beat()

            async def all_there() -> dict[str, float] | None:
                found = await scrape(port)
                complete = (
                    found["agentflow_workers{state=alive}"] and found["agentflow_master_leader"]
                )
                return found if complete else None

            found = await observer.becomes(all_there)
            assert found["agentflow_queue_depth{priority=normal,queue=unserved}"] == 3
            assert found["agentflow_queue_depth{priority=high,queue=unserved}"] == 1
            assert found["agentflow_queue_depth{priority=low,queue=default}"] == 0
            assert found["agentflow_oldest_seconds{queue=unserved}"] > 0
            assert found["agentflow_oldest_seconds{queue=default}"] == 0
            assert found["agentflow_workers{state=lost}"] == 0


async def test_a_master_tells_budgets_limits_and_batches(
    observer: Observer, nats_server: NatsServer
) -> None:
    axis = clocks.Axis(limit=600.0, rate=9.0, capacity=60.0, remaining=150.0)
    clock = clocks.Clock(at=0.0, source="headers", axes={"requests": axis})
    holder = Holder(250_000, datetime.now(UTC) + timedelta(hours=1))
    budget = Budget(limit=5_000_000, spent=1_500_000, held={"w": holder})
    at = datetime.now(UTC)
    rows = (
        Row(nonce="af1", first=1, last=9, at=at),
        Row(nonce="af2", first=10, last=12, at=at, state=RowState.MADE, id="msgbatch_1"),
    )
    async with a_master(nats_server.url) as master:
        await ready(master)
        values = {
            budgets.key("label.team.docs"): budgets.encode(budget),
            clocks.clock_key(Route("key", "opus")): clocks.encode(clock),
            "batches.key.nightly": batches.encode(batches.Table(rows=rows)),
        }
        for key, value in values.items():
            await observer.js.store(subjects.kv(key), value or b"")
        async with served(master.metrics(), ("127.0.0.1", 0)) as port:
            found = await scrape(port)
    told = {name.removeprefix("agentflow_"): value for name, value in found.items()}
    assert told["budget_limit_usd{scope=team=docs}"] == 5.0
    assert told["budget_spent_usd{scope=team=docs}"] == 1.5
    assert told["budget_held_usd{scope=team=docs}"] == 0.25
    assert told["limit_per_minute{limit=requests,route=key.opus}"] == 600.0
    assert told["limit_used_ratio{limit=requests,route=key.opus}"] == 0.75
    assert told["limit_pace_ratio{limit=requests,route=key.opus}"] == 0.9
    assert told["batches_standing{queue=nightly,state=made}"] == 1.0
    assert told["batches_standing{queue=nightly,state=open}"] == 1.0


def test_waiting_counts_from_the_instant_a_task_was_put_off_to() -> None:
    metrics = of_worker()
    now = datetime.now(UTC)
    submitted = now - timedelta(hours=5)
    origin = Origin(id="t", queue="q", priority="normal", message="1-1", submitted=submitted)
    claim = entries.claimed(origin, EMPTY, actor="w", now=now)
    metrics.claimed(claim, now - timedelta(seconds=2))
    assert metrics.registry.get_sample_value(
        "agentflow_task_queue_seconds_sum", {"queue": "q"}
    ) == pytest.approx(2.0, abs=0.001)


def test_strangers_cannot_make_labels_without_end() -> None:
    metrics = of_worker()
    now = datetime.now(UTC)
    for number in range(500):
        origin = Origin(
            id=f"t{number}", queue="q", priority="normal", message="1-1", submitted=now,
            kind=f"k{number}\n\x1b[2J",
        )  # fmt: skip
        spent = Spent(usage=Usage(1, 1), model=f"m{number}" + "x" * 5_000)
        claim = entries.claimed(origin, EMPTY, actor="w", now=now)
        metrics.ended(claim, spent)
    count = sum(len(family.samples) for family in metrics.registry.collect())
    assert count < 3_000
    words = Words(2)
    assert [words(each) for each in ("a", None, "c", "a", "d")] == [
        "a", "none", "other", "a", "other"
    ]  # fmt: skip


def test_what_a_simulator_answered_is_nobody_s_money() -> None:
    metrics = of_worker()
    now = datetime.now(UTC)
    origin = Origin(id="t", queue="q", priority="normal", message="1-1", submitted=now)
    spent = Spent(usage=Usage(1, 1), model="real", cost_micro=9, simulated=True)
    metrics.ended(entries.claimed(origin, EMPTY, actor="w", now=now), spent)
    costs = [
        sample.labels["model"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "agentflow_cost_usd_total"
    ]
    assert costs == ["simulated"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /metrics?x HTTP/1.1", "HTTP/1.1 200 OK"),
        ("HEAD /metrics HTTP/1.1", "HTTP/1.1 200 OK"),
        ("POST /metrics HTTP/1.1", "HTTP/1.1 405 Method Not Allowed"),
        ("GET /else HTTP/1.1", "HTTP/1.1 404 Not Found"),
        ("\xff\x00", "HTTP/1.1 404 Not Found"),
        ("GET /metrics HTTP/1.1\r\nX: " + "x" * 40_000, ""),
    ],
)
async def test_whatever_is_asked_the_next_one_is_answered(request_: str, status: str) -> None:
    async with served(of_worker(), ("127.0.0.1", 0)) as port:
        try:
            assert (await get(port, request_))[0] == status
        except ConnectionError:
            assert not status
        assert "agentflow_slots" in await scrape(port)


async def test_who_says_nothing_takes_no_descriptors_from_tasks() -> None:
    """Many connect and are silent; those that were first make room, and who asks is answered."""
    silent: list[asyncio.StreamWriter] = []
    readers: list[asyncio.StreamReader] = []
    async with served(of_worker(), ("127.0.0.1", 0)) as port:
        try:
            for _ in range(3 * REQUESTS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                readers.append(reader)
                silent.append(writer)
            assert "agentflow_slots" in await scrape(port)
            async with asyncio.timeout(20):
                for reader in readers[: 2 * REQUESTS]:
                    with contextlib.suppress(ConnectionError):
                        assert await reader.read() == b""
        finally:
            for writer in silent:
                writer.transport.abort()


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"at 127\.0\.0\.1:{port}: .*choose another"):
            async with served(of_worker(), ("127.0.0.1", port)):
                pass


async def test_processes_share_as_many_ports_and_a_replacement_waits_for_one() -> None:
    async with served(of_worker(), ("127.0.0.1", 0)) as port:
        replacing = served(of_worker(), ("127.0.0.1", port), shared=1)
        assert await replacing.__aenter__() == port
    try:
        async with asyncio.timeout(10):
            found: dict[str, float] = {}
            while not found:
                try:
                    found = await scrape(port)
                except ConnectionError:
                    await asyncio.sleep(0.02)
        assert "agentflow_slots" in found
        async with served(of_worker(), ("127.0.0.1", port), shared=20) as next_port:
            assert port < next_port < port + 20
    finally:
        await replacing.__aexit__(None, None, None)


def test_the_page_has_every_metric_and_no_other() -> None:
    ours = {}
    for metrics in (of_worker(), of_master(), GatewayMetrics(dict, {}, actor="g")):
        for family in metrics.registry.collect():
            if not family.name.startswith("process_"):
                total = "_total" if family.type == "counter" else ""
                ours[family.name + total] = family.type
    rows = dict(re.findall(r"^\| `(agentflow_\w+)` +\| (\w+) +\|", PAGE, re.MULTILINE))
    assert rows == ours
    alerts = PAGE[PAGE.index("groups:") :]
    used = set(re.findall(r"agentflow_\w+", alerts.split("## ")[0]))
    assert used
    assert used <= ours.keys()


@pytest.mark.parametrize("role", ["worker", "master"])
async def test_the_program_itself_logs_json_and_serves(
    role: str, observer: Observer, nats_server: NatsServer, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentflow", role, "--nats", nats_server.url, "--metrics", "0"),
        *(["--kinds", "echo"] if role == "worker" else []),
        env={**os.environ, "AGENTFLOW_LOG_FORMAT": "json", "AGENTFLOW_LOG_FILE": str(log)},
        cwd=ROOT,
    )
    try:

        def said() -> dict[str, dict[str, object]]:
            lines = log.read_text().splitlines() if log.exists() else []
            return {each["action"]: each for each in map(json.loads, lines) if "action" in each}

        async def ready_() -> dict[str, dict[str, object]] | None:
            return said() if "ready" in said() else None

        actions = await observer.becomes(ready_)
        actor = str(actions["ready"]["actor"])
        found = re.search(r"127\.0\.0\.1:(\d+)/metrics", str(actions["metrics"]["message"]))
        assert found
        told = await scrape(int(found[1]))
        assert [value for name, value in told.items() if f"actor={actor},role={role}," in name] == [
            1
        ]
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            assert await process.wait() == 0
