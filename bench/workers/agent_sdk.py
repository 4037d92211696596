"""Kind `agent-sdk`: Claude Code that stays, through the claude-agent-sdk.

A client is a Claude Code process with one conversation, which can say one thing at a time: so
there are as many as tasks at once, and each conversation grows by every task it answers. That is
no isolation between tasks, and it is what makes this design fast.
"""

from __future__ import annotations

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ResultMessage,
    TextBlock,
)

import agentflow

app = agentflow.App()
_idle: list[ClaudeSDKClient] = []


async def _connected() -> ClaudeSDKClient:
    client = ClaudeSDKClient(ClaudeAgentOptions())
    await client.connect()
    return client


@app.task(kind="agent-sdk", timeout=120)
async def agent_sdk(prompt: str) -> str:
    """The answer."""
    client = _idle.pop() if _idle else await _connected()
    texts: list[str] = []
    await client.query(prompt)
    async for message in client.receive_response():
        if isinstance(message, AssistantMessage):
            texts += [block.text for block in message.content if isinstance(block, TextBlock)]
        elif isinstance(message, ResultMessage) and message.is_error:
            raise agentflow.Fail(f"Claude Code failed: {message.result}", reason="agent_sdk_failed")
    _idle.append(client)
    return "".join(texts)
