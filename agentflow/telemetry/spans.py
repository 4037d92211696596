"""The spans of a task. Its trace is named by the message, and by the record of each attempt.

    submit                              who submits, until the server has the task
      queue                             from the message's storage to its claim, by the timestamps
        attempt                         from the claim to the record that ends it
          anthropic.messages.create     the SDK's own
      queue, attempt                    of each continuation; linked to the attempt before
    batch                               a create of the Batches API, linked to the tasks in it
      anthropic.messages.batches.create the SDK's own

The parent of a continuation is what its message names; where that names nothing (`nats pub` without
a header), what the record before names. An attempt is current for whatever its handler does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from agentflow.protocol import traceparent
from agentflow.protocol.record import Record
from agentflow.protocol.traceparent import Parent
from agentflow.rules.records import NOTHING_SPENT, Spent
from agentflow.telemetry import semantics

LINKS: Final = 128
"""Of a batch: the SDK keeps no more."""


class Spans:
    """Begins and ends them with a tracer of the SDK."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[str, Span] = {}

    # Who submits.

    @contextlib.contextmanager
    def submit(
        self, task_id: str, queue: str, given: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, str]]:
        """While a task is stored; gives the headers of its message.

        `given` are headers that the message has: the trace of a continuation, or of a requester.
        """
        parent = traceparent.of(given or {})
        span = self._tracer.start_span(
            "submit",
            context=_remote(parent),
            kind=SpanKind.PRODUCER,
            attributes=semantics.of_submission(task_id, queue),
            links=_links([trace.get_current_span().get_span_context()]) if parent else (),
        )
        with trace.use_span(span, end_on_exit=True):
            yield {**parent, traceparent.TRACEPARENT: text(span)}

    # Who works.

    def begin(
        self, claim: Record, headers: Mapping[str, str], stored_ns: int, before: Record | None
    ) -> Record:
        """The claim with its attempt's span, which is the current one in this context from here."""
        told = traceparent.parse(before.traceparent) if before is not None else None
        parent = _remote(traceparent.of(headers)) or _within(told)
        now = _ns(claim.time)
        waited = self._tracer.start_span(
            "queue",
            context=parent,
            kind=SpanKind.CONSUMER,
            start_time=min(stored_ns, now),
            attributes={semantics.TASK: claim.id, semantics.DESTINATION: claim.queue},
        )
        waited.end(now)
        span = self._tracer.start_span(
            "attempt",
            context=trace.set_span_in_context(waited, Context()),
            start_time=now,
            attributes=semantics.of_claim(claim),
            links=_links([_context(told)] if told is not None else []),
        )
        context.attach(trace.set_span_in_context(span))
        self._open[claim.id] = span
        return msgspec.structs.replace(claim, traceparent=text(span))

    def left(self, task_id: str) -> None:
        """An attempt is over, whether or not a record of ours says so."""
        if (span := self._open.pop(task_id, None)) is not None:
            span.set_attribute("agentflow.task.state", "superseded")
            span.end()

    def claimed(self, record: Record, not_before: datetime | None) -> None:
        """As an observer of attempts it has been told already: the claim names the span."""

    def ended(self, record: Record, spent: Spent | None) -> None:
        """An attempt has ended with `record`."""
        span = self._open.pop(record.id, None)
        told = traceparent.parse(record.traceparent)
        end: int | None = None
        if span is None:
            if spent is None or told is None or record.timings.started is None:
                return  # it was not run
            # In a batch: nobody here ran it, and its times are told by the API.
            end = _ns(record.timings.ended or record.time)
            span = self._tracer.start_span(
                "attempt",
                context=_within(told),
                start_time=_ns(record.timings.started),
                attributes=semantics.of_claim(record),
            )
        for name, value in semantics.of_end(record, spent or NOTHING_SPENT).items():
            span.set_attribute(name, value)
        if semantics.went_wrong(record):
            span.set_status(
                Status(StatusCode.ERROR, record.error.message[:300] if record.error else "")
            )
        span.end(end)

    def waiting(self, record: Record, headers: Mapping[str, str]) -> Record:
        """The record of a task that waits for a batch, with the trace that it belongs to."""
        told = traceparent.parse(traceparent.of(headers).get(traceparent.TRACEPARENT))
        if record.traceparent is not None or told is None:
            return record
        return msgspec.structs.replace(record, traceparent=told.text)

    @contextlib.contextmanager
    def batch(self, nonce: str, count: int, members: Iterable[str | None]) -> Iterator[None]:
        """While a batch is created; `members` are what the records of its tasks name."""
        named = [told for told in map(traceparent.parse, members) if told is not None]
        with self._tracer.start_as_current_span(
            "batch",
            kind=SpanKind.PRODUCER,
            attributes={"agentflow.batch.name": nonce, "agentflow.batch.count": count},
            links=_links(_context(told) for told in named[:LINKS]),
        ):
            yield


def text(span: Span) -> str:
    """A span as `traceparent` names it."""
    own = span.get_span_context()
    return Parent(own.trace_id, own.span_id, own.trace_flags).text


def here() -> tuple[str, str] | None:
    """Trace and span that are current, for the log; None where there are none."""
    own = trace.get_current_span().get_span_context()
    return (f"{own.trace_id:032x}", f"{own.span_id:016x}") if own.is_valid else None


def _ns(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000_000) * 1_000


def _remote(headers: Mapping[str, str]) -> Context | None:
    """The context that headers name; of `tracestate` the propagator keeps what is well-formed."""
    if not headers:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(dict(headers), Context())


def _context(told: Parent) -> trace.SpanContext:
    return trace.SpanContext(told.trace, told.span, True, trace.TraceFlags(told.flags))


def _within(told: Parent | None) -> Context | None:
    if told is None:
        return None
    return trace.set_span_in_context(trace.NonRecordingSpan(_context(told)), Context())


def _links(contexts: Iterable[trace.SpanContext]) -> list[Link]:
    return [Link(found) for found in contexts if found.is_valid]
