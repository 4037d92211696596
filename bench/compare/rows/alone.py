"""The request by hand, and nothing else: the floor."""

from __future__ import annotations

import sys

from bench.compare import sizes
from bench.compare.rows.design import Design, nothing_missing

DESIGN = Design(
    name="alone",
    title="raw HTTP, no queue",
    text="the same hand-made client without a queue, a log or a worker: the floor of this machine",
    kind="",
    command=lambda site, slots, processes: [sys.executable, "-m", "bench.workers.alone"],
    missing=nothing_missing,
    versions=lambda _: {},
    size=lambda _: sizes.of_python("msgspec"),
    orders=True,
)
