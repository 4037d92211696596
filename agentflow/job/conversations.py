"""What no type says of a request: its messages and tools against each other. Pure.

Only what the API refuses whatever the model is; the shapes themselves are known to be right here.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agentflow.errors import InvalidTask

_TOOL: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")

_Object = Mapping[str, Any]


def check_messages(messages: Sequence[_Object]) -> None:
    """Raise InvalidTask for a conversation that cannot be one."""
    if messages and messages[0]["role"] == "assistant":
        raise InvalidTask("params.messages[0].role is 'assistant'; the first message is the user's")
    used: set[str] = set()
    for at, message in enumerate(messages):
        where, content = f"params.messages[{at}].content", message["content"]
        last_word = message["role"] == "assistant" and at == len(messages) - 1
        if last_word:
            _check_last_word(content, where)
        elif _says_nothing(content):
            raise InvalidTask(f"{where} is empty, or has an empty text")
        for number, block in enumerate(_blocks(content)):
            _check_block(block, f"{where}[{number}]", used)
    answered = {
        block.get("tool_use_id")
        for message in messages
        for block in _blocks(message["content"])
        if block.get("type") == "tool_result"
    }
    if left := sorted(used - answered):
        raise InvalidTask(f"params.messages use the tool call {left[0]!r:.80} without a result")


def _blocks(content: str | Sequence[_Object]) -> Iterator[_Object]:
    return iter(()) if isinstance(content, str) else iter(content)


def _says_nothing(content: str | Sequence[_Object]) -> bool:
    """Whether there is nothing, or a text that is blank."""
    if isinstance(content, str):
        return not content.strip()
    texts = [str(block.get("text")) for block in content if block.get("type") == "text"]
    return not content or not all(text.strip() for text in texts)


def _check_last_word(content: str | Sequence[_Object], where: str) -> None:
    text = content if isinstance(content, str) else content[-1].get("text", "") if content else ""
    if text != text.rstrip():
        raise InvalidTask(f"{where} ends in white space, and the answer would begin with it")


def _check_block(block: _Object, where: str, used: set[str]) -> None:
    """`used`: the tool calls before this block, to which it may add one."""
    match block.get("type"):
        case "tool_use":
            used.add(str(block.get("id")))
        case "tool_result":
            name = block.get("tool_use_id")
            if name not in used:
                raise InvalidTask(f"{where}.tool_use_id {name!r:.80} is no tool call before it")
        case "image" | "document":
            source = block.get("source") or {}
            if source.get("type") == "base64":
                _check_base64(source.get("data"), f"{where}.source.data")


def _check_base64(data: object, where: str) -> None:
    try:
        right = isinstance(data, str) and base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        right = False
    if not right:
        raise InvalidTask(f"{where} is no base64")


def check_tools(tools: object) -> None:
    """Raise InvalidTask for tools that cannot be told from each other, or have no parameters."""
    names: set[str] = set()
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict) or not isinstance(name := tool.get("name"), str):
            continue
        where = f"params.tools[{at}]"
        if _TOOL.fullmatch(name) is None:
            raise InvalidTask(f"{where}.name is {name!r:.80}, not 1 to 128 of A-Z a-z 0-9 _ -")
        if name in names:
            raise InvalidTask(f"{where}.name is {name!r}, and another tool is called so already")
        names.add(name)
        schema = tool.get("input_schema")
        if isinstance(schema, dict) and schema.get("type") != "object":
            raise InvalidTask(f"{where}.input_schema.type is not 'object'")
