"""Kind `raw-http`: the request by hand (sse.py) within AgentFlow's worker.

What it is faster than kind `claude`, the SDK costs; what it is slower than `alone`, the queue.
"""

from __future__ import annotations

import agentflow
from bench.workers.sse import Api

app = agentflow.App()
_api: list[Api] = []


@app.task(kind="raw-http", timeout=120)
async def raw_http(prompt: str) -> str:
    """The answer."""
    if not _api:
        _api.append(Api.from_environment())
    return await _api[0].ask(prompt)
