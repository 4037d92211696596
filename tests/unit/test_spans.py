"""How the spans of a task hang together, by the SDK's own tracer."""

import subprocess
import sys
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, messaging_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.schemas import Schemas

from agentflow.protocol.record import EMPTY, Failure, Last, Record, State, Usage
from agentflow.protocol.traceparent import parse
from agentflow.rules import records
from agentflow.rules.records import Origin, Spent
from agentflow.telemetry import semantics, tracing
from agentflow.telemetry.spans import Spans

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STORED = int(NOW.timestamp() * 1e9) - 2_000_000_000
GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ORIGIN = Origin(id="t1", queue="q", priority="normal", message="1-1", submitted=NOW, kind="claude")


class Kept:
    """Spans that are over, by their names."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = Spans(provider.get_tracer("test"))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def kept() -> Iterator[Kept]:
    return Kept()


def claim(last: Last = EMPTY) -> Record:
    return records.claimed(ORIGIN, last, actor="w-1", now=NOW)


def run(kept: Kept, headers: dict[str, str], last: Last, state: State, spent: Spent) -> Record:
    """An attempt from its claim to its record, in a context of its own; that record."""

    def attempt() -> Record:
        begun = kept.spans.begin(claim(last), headers, STORED, last.record)
        record = records.follow(
            ORIGIN,
            Last(last.sequence + 1, begun),
            state,
            actor="w-1",
            now=NOW + timedelta(seconds=1),
            spent=spent,
            stop_reason="end_turn" if state is State.SUCCEEDED else None,
            error=Failure("overloaded_error", "busy") if state is State.RETRYING else None,
        )
        kept.spans.ended(record, spent)
        kept.spans.left("t1")
        return record

    return copy_context().run(attempt)


def test_queue_hangs_below_the_submission_and_the_attempt_below_it(kept: Kept) -> None:
    with kept.spans.submit("t1", "q") as headers:
        pass
    used = Usage(input_tokens=3, output_tokens=5, cache_read_input_tokens=4)
    spent = Spent(usage=used, cost_micro=1500, model="claude-x", first_token_s=0.2)
    record = run(kept, headers, EMPTY, State.SUCCEEDED, spent)
    (submit,), (queue,), (attempt,) = map(kept.named, ("submit", "queue", "attempt"))
    assert submit.context is not None and queue.context is not None and attempt.context is not None
    assert queue.parent is not None and queue.parent.span_id == submit.context.span_id
    assert attempt.parent is not None and attempt.parent.span_id == queue.context.span_id
    assert (queue.start_time, queue.end_time) == (STORED, STORED + 2_000_000_000)
    assert attempt.attributes is not None
    assert attempt.attributes["gen_ai.usage.input_tokens"] == 7
    assert attempt.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert attempt.attributes["agentflow.cost_usd"] == 0.0015
    assert "gen_ai.operation.name" not in attempt.attributes
    told = parse(record.traceparent)
    assert told is not None and told.span == attempt.context.span_id


@pytest.mark.parametrize("headers", [{}, {"Traceparent": GIVEN}])
def test_a_retry_is_in_the_same_trace_and_linked_to_the_attempt_before(
    kept: Kept, headers: dict[str, str]
) -> None:
    first = run(kept, headers, EMPTY, State.RETRYING, Spent())
    run(kept, headers, Last(2, first), State.SUCCEEDED, Spent())
    one, two = kept.named("attempt")
    assert one.context is not None and two.context is not None
    assert one.context.trace_id == two.context.trace_id
    if headers:
        assert f"{one.context.trace_id:032x}" in GIVEN
    (link,) = two.links
    assert link.context.span_id == one.context.span_id
    assert one.status.is_ok is False and two.status.is_ok
    assert one.attributes is not None and one.attributes["error.type"] == "overloaded_error"


def test_an_attempt_that_is_another_s_says_so(kept: Kept) -> None:
    def attempt() -> None:
        kept.spans.begin(claim(), {}, STORED, None)
        kept.spans.left("t1")

    copy_context().run(attempt)
    (span,) = kept.named("attempt")
    assert span.attributes is not None
    assert span.attributes["agentflow.task.state"] == "superseded"


def test_a_record_of_nonsense_begins_a_trace_of_its_own(kept: Kept) -> None:
    before = msgspec.structs.replace(claim(), traceparent="00-zz", state=State.RETRYING)
    run(kept, {"traceparent": "no"}, Last(1, before), State.SUCCEEDED, Spent())
    (attempt,) = kept.named("attempt")
    assert not attempt.links


def test_a_batch_is_linked_to_its_tasks_and_each_has_its_attempt(kept: Kept) -> None:
    waiting = records.into_batch(ORIGIN, EMPTY, actor="w-1", now=NOW, pool="p")
    waiting = kept.spans.waiting(waiting, {"traceparent": GIVEN})
    assert waiting.traceparent == GIVEN
    with kept.spans.batch("af1", 2, [waiting.traceparent, None]):
        pass
    ended = records.follow(
        ORIGIN, Last(1, waiting), State.SUCCEEDED, actor="w-1", now=NOW, attempt=1, started=NOW,
        ended=NOW + timedelta(hours=1),
    )  # fmt: skip
    kept.spans.ended(ended, Spent(saved_micro=5))
    (batch,), (attempt,) = kept.named("batch"), kept.named("attempt")
    assert f"{batch.links[0].context.trace_id:032x}" in GIVEN
    assert attempt.context is not None and f"{attempt.context.trace_id:032x}" in GIVEN
    assert (attempt.end_time or 0) - (attempt.start_time or 0) == 3600 * 10**9


def test_what_was_not_run_has_no_attempt(kept: Kept) -> None:
    kept.spans.ended(records.claimed(ORIGIN, EMPTY, actor="w-1", now=NOW), None)
    assert not kept.named("attempt")


def test_the_names_of_attributes_are_those_of_the_conventions() -> None:
    known = {
        value
        for module in (gen_ai_attributes, messaging_attributes, error_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    ours = {*semantics.CLAIM, *semantics.END, *semantics.of_submission("t", "q")}
    assert {name for name in ours if not name.startswith("agentflow.")} <= known
    assert semantics.SCHEMA_URL in {schema.value for schema in Schemas}


@pytest.mark.parametrize(
    ("environment", "signal", "expected"),
    [
        ({}, "traces", False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "traces", True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, "traces", True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, "metrics", False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "c", "OTEL_TRACES_EXPORTER": "none"}, "traces", False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "c", "OTEL_SDK_DISABLED": "true"}, "metrics", False),
    ],
)
def test_the_variables_of_opentelemetry_decide(
    environment: dict[str, str], signal: str, expected: bool
) -> None:
    assert tracing.wanted(signal, environment) is expected


def test_who_traces_nothing_loads_nothing_of_it() -> None:
    program = (
        "import sys, agentflow.client.client, agentflow.worker.process, agentflow.master.master\n"
        "from agentflow.telemetry import tracing\n"
        "assert tracing.found() is None and tracing.begin('w', 'w-1') is None\n"
        "sys.exit(','.join(m for m in sys.modules if m.startswith('opentelemetry')) or 0)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env={"PATH": ""}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
