"""Schemathesis judges what we answer by what /openapi.json says of it."""

from __future__ import annotations

import asyncio

import pytest

from agentflow.worker.worker import Worker
from tests.gateway.conftest import Serve
from tests.support import tools

LEFT_OUT = ("/v1/events", "/v1/tasks/{name}/events", "/ws", "/v1/tasks/bulk")
"""What never ends, a socket, and JSON lines, which it cannot write."""
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "unsupported_method", "allow_header_conformance"),
)


@pytest.mark.long("two minutes of requests")
@pytest.mark.tools("web")
@pytest.mark.timeout(400)
async def test_answers_are_what_the_description_says(serve: Serve, stack: Worker) -> None:
    served = await serve()
    described = (await served.get("/openapi.json")).json
    command = [
        *("run", f"{served.url}/openapi.json", "--url", served.url),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", "5", "--seed", "1", "--workers", "2", "--no-color"),
        *("--request-timeout", "60", "--continue-on-failure", "--suppress-health-check", "all"),
    ]
    for path in LEFT_OUT:
        assert path in described["paths"]
        command += ["--exclude-path", path]
    process = await asyncio.create_subprocess_exec(
        str(tools.path("web").parent / "st"),
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-20_000:]
