"""Whether this process traces, and where its spans and figures go.

Nobody traces unless asked: by `OTEL_EXPORTER_OTLP_ENDPOINT` (commands, masters and workers; the
extra `otel` has what exports), or by an application that has set the OpenTelemetry SDK up itself
(clients in it). Else nothing of it is imported, and a task costs one look at an attribute.

    begin    the SDK, exporting as its own variables say
    found    what traces here, or None
    passed   the trace of who does not trace and passes it on
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from agentflow.protocol import traceparent
from agentflow.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    from agentflow.telemetry.spans import Spans

_log = logging.getLogger(__name__)

SCOPE: Final = "agentflow"
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
PARENT: Final = "TRACEPARENT"
"""The variable in which a parent process names its span."""
FLUSH: Final = 5.0
"""Seconds that a process waits at its end for a collector that does not answer."""

by_environment = False
"""Whether a client of this process may set the SDK up: in a command it may, in a library not."""
passed: ContextVar[Mapping[str, str] | None] = ContextVar("agentflow_passed", default=None)
"""Headers of the trace that submissions belong to, where this process does not trace itself."""

_provider: TracerProvider | None = None


def wanted(signal: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for `traces`, or for `metrics`."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    name = signal.upper()
    if environment.get(f"OTEL_{name}_EXPORTER", "otlp").strip().lower() != "otlp":
        return False
    own = f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT"
    return bool(environment.get(own) or environment.get(ENDPOINT))


def resource(role: str, actor: str) -> Resource:
    """Who tells: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come before ours."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = {
        "service.name": f"agentflow-{role}",
        "service.version": __version__,
        "service.instance.id": actor,
    }
    given = OTELResourceDetector().detect().attributes
    return Resource.create({**ours, **given})


def begin(role: str, actor: str) -> Spans | None:
    """Trace from here on, where the environment asks for it; what traces here."""
    global _provider
    if _provider is None and wanted("traces") and installed():
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        _provider = TracerProvider(resource=resource(role, actor), shutdown_on_exit=False)
        _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(_provider)
        # The exporter says what it cannot send again at each try.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    return found()


def found() -> Spans | None:
    """What traces in this process, None where nothing does."""
    if by_environment and _provider is None and wanted("traces"):
        return begin("client", f"client-{os.getpid()}")
    # Nobody can have set up what is not loaded.
    if "opentelemetry.sdk.trace" not in sys.modules:
        return None
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from agentflow.telemetry.spans import Spans

    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return None
    return Spans(provider.get_tracer(SCOPE, __version__))


def end() -> None:
    """Send what is left, for FLUSH seconds at most."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        within(FLUSH, provider.shutdown)


def within(seconds: float, work: object) -> None:
    """Call `work`, and leave it behind where it takes longer."""
    assert callable(work)
    thread = threading.Thread(target=work, daemon=True, name="telemetry")
    thread.start()
    thread.join(seconds)


@contextmanager
def passing(headers: Mapping[str, str]) -> Iterator[None]:
    """Submissions within belong to the trace that these headers of a request name.

    For whoever submits for others: it holds whether this process traces or not.
    """
    token = passed.set(traceparent.of(headers) or None)
    try:
        yield
    finally:
        passed.reset(token)


@contextmanager
def command(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """A command runs: it traces where the environment says so, and its submissions belong to the
    trace of whatever started it.
    """
    global by_environment
    by_environment = True
    try:
        with passing({traceparent.TRACEPARENT: environment.get(PARENT, "")}):
            yield
    finally:
        end()


def installed() -> bool:
    """Whether the extra is there, and speaks what is asked for; else the log says what to do."""
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: F401
    except ImportError:
        _log.warning(
            "%s is set, and what it needs is not installed: pip install 'agentflow-nats[otel]'",
            ENDPOINT,
        )
        return False
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").strip()
    if protocol != "http/protobuf":
        _log.warning("OTLP goes over http/protobuf here; %s is not there", protocol)
    return True
