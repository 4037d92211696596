"""The metrics of metrics.py, sent by OTLP: the same names, labels and values.

What is sent is read from the registry that Prometheus would read, so that there is one count of
everything. Sums and histograms are cumulative, from this process's start. A collector that does not
answer costs what it was not told; the next figures hold all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from agentflow.telemetry import tracing
from agentflow.version import __version__

if TYPE_CHECKING:
    from agentflow.telemetry.metrics import MasterMetrics, WorkerMetrics

_log = logging.getLogger(__name__)

EVERY: Final = 60.0
_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE


@contextlib.asynccontextmanager
async def pushed(metrics: WorkerMetrics | MasterMetrics, resource: Resource) -> AsyncIterator[None]:
    """Send them every OTEL_METRIC_EXPORT_INTERVAL milliseconds (a minute), and once at the end."""
    exporter, start = OTLPMetricExporter(), time.time_ns()

    async def data() -> MetricsData:
        await metrics.refresh()
        return read(metrics.registry, resource, start, time.time_ns())

    async def keep() -> None:
        while True:
            await asyncio.sleep(_every())
            told = await data()
            try:
                # It goes on for as long as its timeout says, in a thread.
                await asyncio.to_thread(exporter.export, told)
            except Exception as error:
                _log.info("metrics were not sent: %s", error)

    sending = asyncio.create_task(keep(), name="otlp metrics")
    try:
        yield
    finally:
        sending.cancel()
        last = await data()

        def send() -> None:
            exporter.export(last)
            exporter.shutdown()

        await asyncio.to_thread(tracing.within, tracing.FLUSH, send)


def _every() -> float:
    try:
        return max(0.1, float(os.environ["OTEL_METRIC_EXPORT_INTERVAL"]) / 1000)
    except (KeyError, ValueError):
        return EVERY


def read(registry: CollectorRegistry, resource: Resource, start: int, now: int) -> MetricsData:
    """A registry as OTLP has it; instants in nanoseconds."""
    found = [metric for family in registry.collect() for metric in _metrics(family, start, now)]
    scope = InstrumentationScope(tracing.SCOPE, __version__)
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, found, "")], "")])


def _metrics(family: Family, start: int, now: int) -> Iterable[Metric]:
    samples = [each for each in family.samples if not each.name.endswith("_created")]
    if not samples:
        return
    if family.type == "histogram":
        points = _histograms(samples, start, now)
        yield Metric(family.name, family.documentation, "", Histogram(points, _CUMULATIVE))
        return
    counts = family.type == "counter"
    numbers = [
        NumberDataPoint(each.labels, start if counts else 0, now, float(each.value))
        for each in samples
    ]
    data = Sum(numbers, _CUMULATIVE, True) if counts else Gauge(numbers)
    yield Metric(samples[0].name, family.documentation, "", data)


def _histograms(samples: list[Sample], start: int, now: int) -> list[HistogramDataPoint]:
    """A point for each set of labels: Prometheus counts up to each bound, OTLP between them."""
    groups: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for each in samples:
        labels = tuple((name, value) for name, value in each.labels.items() if name != "le")
        groups.setdefault(labels, []).append(each)
    points = []
    for labels, group in groups.items():
        buckets = [each for each in group if each.name.endswith("_bucket")]
        up_to = [int(each.value) for each in buckets]
        between = [count - before for count, before in zip(up_to, [0, *up_to[:-1]], strict=True)]
        total = next(each.value for each in group if each.name.endswith("_sum"))
        bounds = [float(each.labels["le"]) for each in buckets][:-1]  # the last one is infinite
        point = HistogramDataPoint(
            dict(labels), start, now, up_to[-1], total, between, bounds, 0.0, 0.0
        )
        points.append(point)
    return points
