"""Kind `claude-p`: `claude -p PROMPT` for each task and nothing round it, as the document has it.

Less than kind `claude-cli` does: one HOME for all runs, no workspace, no guard that ends what a
run leaves behind, no stream of what it says.
"""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL, PIPE

import agentflow

app = agentflow.App()


@app.task(kind="claude-p", timeout=120)
async def claude_p(prompt: str) -> str:
    """The answer."""
    child = await asyncio.create_subprocess_exec(
        os.environ["AGENTFLOW_CLAUDE"],
        *("-p", prompt, "--output-format", "json"),
        stdin=DEVNULL,  # an open pipe it would read for three seconds
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        out, errors = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    # Its exit status says nothing: interrupted it is 0, and `subtype` is "success" on errors too.
    result = json.loads(out) if out else {}
    if result.get("is_error", True):
        said = result.get("result") or errors.decode(errors="replace")
        raise agentflow.Fail(f"claude -p failed: {said[:500]}", reason="claude_p_failed")
    return str(result["result"])
