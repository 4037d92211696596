"""The request by hand within AgentFlow's worker."""

from __future__ import annotations

from bench.compare import sizes
from bench.compare.rows.design import Design, nothing_missing, worker

DESIGN = Design(
    name="raw-http",
    title="AgentFlow, raw HTTP",
    text="a hand-made client (bench/workers/sse.py) as a handler of AgentFlow's worker",
    kind="raw-http",
    command=lambda site, slots, processes: worker(
        site, slots, processes, "bench.workers.raw_http:app"
    ),
    missing=nothing_missing,
    versions=lambda _: {},
    size=lambda _: sizes.of_python("agentflow-nats", without=("anthropic",)),
)
