"""Answers that are JSON of a schema: how they are asked for, read, and asked for again.

Where the model has it the API holds the answer to the schema. It takes a part of JSON Schema only
(no references that lead back, no bounds), so the SDK makes of a schema what the API takes, with the
rest in descriptions; what it cannot make anything of, and older models, are told in words. Either
way the answer is checked against the whole schema here. Knows no I/O.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import anthropic
import msgspec

from agentflow.handlers.contract import Outcome
from agentflow.protocol.task import Task
from agentflow.rules import schemas
from agentflow.rules.routes.models import answers_structured

_IN_WORDS: Final = (
    "Answer with one JSON value that fits this JSON Schema, and with nothing else: no explanation, "
    "no code fence.\n\n"
)


class Structured:
    """What one task's answer must be. Raises InvalidTask for a schema that cannot be used."""

    def __init__(self, task: Task) -> None:
        assert task.schema is not None
        self._given = task.schema
        self._schema = schemas.checked(task.schema)

    def asked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The request with what it asks for."""
        config = arguments.get("output_config") or {}
        form = None
        if answers_structured(arguments["model"]) and not self._schema.recursive:
            form = _form(msgspec.json.encode(self._given))
        if form is not None:
            return {**arguments, "output_config": {**config, "format": form}}
        words = _IN_WORDS + msgspec.json.encode(self._given).decode()
        return {**arguments, "system": _with_words(arguments.get("system"), words)}

    def read(self, outcome: Outcome) -> tuple[Any, str | None]:
        """The value of an answer, or why it is none that fits."""
        text = _unfenced(outcome.text or "")
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return None, f"it is no JSON: {error}" if text else "it has no text"
        return value, self._schema.fault(value)


def again(arguments: dict[str, Any], outcome: Outcome, fault: str) -> dict[str, Any]:
    """The request that shows an answer its fault and asks for another."""
    text = (
        f"Your answer does not fit the JSON schema that was asked for: {fault}. Answer again, with "
        "the whole corrected JSON and nothing else."
    )
    said: list[dict[str, Any]] = [{"role": "user", "content": text}]
    blocks = outcome.content or (
        [{"type": "text", "text": outcome.text}] if (outcome.text or "").strip() else None
    )
    if blocks:
        said.insert(0, {"role": "assistant", "content": blocks})
    return {**arguments, "messages": [*arguments["messages"], *said]}


@lru_cache(maxsize=32)
def _form(schema: bytes) -> dict[str, Any] | None:
    given = msgspec.json.decode(schema)
    if not _can_be_asked(given):
        return None
    try:
        return {"type": "json_schema", "schema": anthropic.transform_schema(given)}
    except (ValueError, TypeError, AttributeError, AssertionError, RecursionError):
        return None  # no type, or a keyword of a shape that the SDK does not look for


def _can_be_asked(part: Any) -> bool:
    """Whether the API's objects can be these: it closes each, so names must be known before."""
    if isinstance(part, list):
        return all(map(_can_be_asked, part))
    if not isinstance(part, dict):
        return True
    reference = part.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#/$defs/"):
        return False
    if isinstance(part.get("additionalProperties"), dict) or "patternProperties" in part:
        return False
    return all(map(_can_be_asked, part.values()))


def _with_words(system: Any, words: str) -> Any:
    if isinstance(system, list):
        return [*system, {"type": "text", "text": words}]
    return f"{system}\n\n{words}" if system else words


def _unfenced(text: str) -> str:
    """Without the code fence that models like to put around JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text[text.index("\n") : -3].strip()
    return text
