"""Traces from one process to the next, as a collector gets them: real workers, commands, SDK."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from agentflow.protocol import headers as blocks
from tests.support.collector import Collector, told
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.parts import Parts
from tests.support.until import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GIVEN = f"00-{TRACE}-00f067aa0ba902b7-01"
APP = """
import agentflow

app = agentflow.App()

@app.task
async def flaky(ctx: agentflow.Context) -> str:
    ctx.log.info("seen")
    if ctx.attempt == 1:
        raise agentflow.Retry("not yet", delay=0.1)
    return "well"
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


def below(span: Span, parent: Span) -> bool:
    return span.parent_span_id == parent.span_id and span.trace_id == parent.trace_id


async def test_a_trace_leads_from_who_submits_to_the_request(
    nats_server: NatsServer, parts: Parts, collector: Collector, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(APP)
    environment = {
        "AGENTFLOW_NATS": nats_server.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
    }
    worker = parts.start(
        "worker", "mine:app", "--kinds", "claude,flaky", "--log-format", "json",
        ANTHROPIC_API_KEY="sk-ant-test", ANTHROPIC_BASE_URL=await parts.simulator(), **environment,
    )  # fmt: skip
    await worker.says('"ready"')
    submit = parts.start("submit", "hello", "--wait", TRACEPARENT=GIVEN, **environment)
    assert await submit.exited(60) == 0, worker.text()
    observer = await Observer.open(nats_server.url)
    try:
        # As `nats pub -H traceparent:...` does.
        block = {"traceparent": GIVEN, "Agentflow-Id": "plain"}
        await observer.js.store(
            "agentflow.tasks.default", b'{"kind": "flaky", "params": {}}', blocks.encode(block)
        )
        async with asyncio.timeout(30):
            await until(lambda: len(collector.named("attempt")) >= 3)
            await until(lambda: bool(collector.metrics))
    finally:
        await observer.close()

    submitted = collector.named("submit")[0]
    assert submitted.trace_id.hex() == TRACE
    first, one, two = collector.named("attempt")
    request = collector.named("anthropic.messages.create")[0]
    queue = next(span for span in collector.named("queue") if below(first, span))
    assert below(queue, submitted) and below(request, first)
    # The answer is read by our own reader, so what it used stands on the attempt.
    assert told(first)["gen_ai.response.model"] == told(request)["gen_ai.request.model"]
    assert collector.services() == {"agentflow-worker", "agentflow-client"}
    assert {one.trace_id.hex(), two.trace_id.hex()} == {TRACE}
    assert [link.span_id for link in two.links] == [one.span_id]

    lines = [json.loads(line) for line in worker.text().splitlines() if line.startswith("{")]
    said = [line for line in lines if str(line["message"]).endswith("seen")]
    assert [line["span_id"] for line in said] == [one.span_id.hex(), two.span_id.hex()]
    assert {line["trace_id"] for line in said} == {TRACE}

    names = {
        metric.name
        for sent in collector.metrics
        for resource in sent.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {"agentflow_tasks_total", "agentflow_task_seconds", "agentflow_running"} <= names


async def test_a_collector_that_is_away_keeps_nobody(
    nats_server: NatsServer, parts: Parts, free_port: object
) -> None:
    assert callable(free_port)
    worker = parts.start(
        "worker", "--kinds", "echo", AGENTFLOW_NATS=nats_server.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
    )  # fmt: skip
    await worker.says("slots on default")
    submit = parts.start(
        "submit", "hello", "--kind", "echo", "--wait", AGENTFLOW_NATS=nats_server.url,
        TRACEPARENT=GIVEN,
    )  # fmt: skip
    assert await submit.exited() == 0, submit.text()
