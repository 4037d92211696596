"""A local server that speaks the Messages API, for demonstrations, tests and benchmarks.

The real SDKs and the real Claude CLI run against it unchanged; every answer says that it is
simulated. How a request goes through it, each step a file:

    connection   bytes and time: parses with `http`, plays a `reply`
    server       what listens; `control` is /_fake/..., `api` is /v1/...
    messages     is the request valid, what does it say
    knobs        what was asked for, in four layers; `script` gives the third
    limits       may it pass
    caching      what of it is read from the prompt cache
    faults       the failures; `answers` (with `prose`, `schema`) the message
    timing, sse  when its parts are due, as a stream
    batches      Message Batches and what became of them; `batching` is their endpoints
    log          what happened

Everything between `connection` and `log` is a function of its arguments; nothing waits.
"""

from __future__ import annotations

from agentflow.simulator.knobs import (
    BatchKnobs,
    Const,
    KnobError,
    Knobs,
    Layer,
    LogNormal,
    ToolCall,
    Uniform,
)
from agentflow.simulator.limits import Limits
from agentflow.simulator.log import Entry, Stats
from agentflow.simulator.script import Script, parse_scripts
from agentflow.simulator.server import Simulator, main

__all__ = [
    "BatchKnobs",
    "Const",
    "Entry",
    "KnobError",
    "Knobs",
    "Layer",
    "Limits",
    "LogNormal",
    "Script",
    "Simulator",
    "Stats",
    "ToolCall",
    "Uniform",
    "main",
    "parse_scripts",
]
