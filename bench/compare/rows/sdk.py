"""AgentFlow's worker with the SDK in process."""

from __future__ import annotations

from bench.compare import sizes
from bench.compare.rows.design import Design, nothing_missing, worker

DESIGN = Design(
    name="sdk",
    title="AgentFlow, SDK in process",
    text="AgentFlow's own worker: kind `claude`, anthropic in the worker's process, streamed",
    kind="claude",
    command=lambda site, slots, processes: worker(site, slots, processes, "--kinds", "claude"),
    missing=nothing_missing,
    versions=lambda _: sizes.versions("anthropic", "httpx2"),
    size=lambda _: sizes.of_python("agentflow-nats"),
    prefork=True,
)
