"""What holds for the lines that do not say it themselves."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from agentflow.errors import UsageError
from agentflow.handlers.claude.request import has_format
from agentflow.protocol.task import TaskBody, decode_body


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """Fields for lines that name none. All but `max_attempts` are for kind claude.

    `cache_prefix`: mark what lines share, tools and system prompt, as to be cached.
    """

    model: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    max_attempts: int | None = None
    schema: dict[str, Any] | None = None
    repair: int | None = None
    batch: bool | Literal["once"] | None = None
    batch_after: float | None = None
    cache_prefix: bool = False
    redact: bool = False
    """Whether no list shows how the prompts begin."""

    def check(self) -> None:
        """Raise UsageError for what no task could have."""
        fields: dict[str, Any] = {"prompt": "x"}
        for name in ("model", "system", "max_tokens", "max_attempts", "schema", "batch_after"):
            if getattr(self, name) is not None:
                fields[name] = getattr(self, name)
        try:
            decode_body(msgspec.json.encode(fields))
        except (UsageError, UnicodeEncodeError) as error:
            raise UsageError(f"an option does not fit: {error}") from None

    def fill(self, body: TaskBody) -> None:
        """Write into `body` what it leaves open, where its kind has such a thing."""
        if self.redact and body.title is None:
            body.title = ""
        if self.max_attempts is not None and body.max_attempts is None:
            body.max_attempts = self.max_attempts
        params = body.params or {}
        if body.kind not in (None, "claude"):
            # As it always was: the model is for whatever kind may ask one.
            if self.model is not None and body.model is None and "model" not in params:
                body.model = self.model
            return
        if self.schema is not None and body.schema is None and not has_format(params):
            body.schema = self.schema
        if self.repair is not None and body.schema is not None and body.repair is None:
            body.repair = self.repair
        if body.batch is None and body.batch_after is None:
            body.batch, body.batch_after = self.batch, self.batch_after
        for name in ("model", "system", "max_tokens"):
            value = getattr(self, name)
            if value is not None and getattr(body, name) is None and name not in params:
                setattr(body, name, value)
        if self.temperature is not None and "temperature" not in params:
            body.params = params = {**params, "temperature": self.temperature}
        if self.cache_prefix:
            _mark(body, params)


_MARK: Final = {"type": "ephemeral"}


def _mark(body: TaskBody, params: dict[str, Any]) -> None:
    """Have the API cache the system prompt and all before it, else the tools; unless marks say
    it themselves."""
    if b'"cache_control"' in msgspec.json.encode(params):
        return
    system = body.system or params.get("system")
    name, blocks = "system", [{"type": "text", "text": system}] if system else []
    if isinstance(system, list):
        blocks = system
    elif not system:
        name, blocks = "tools", params.get("tools") or []
    if blocks and isinstance(blocks, list) and isinstance(blocks[-1], dict):
        body.params = {**params, name: [*blocks[:-1], {**blocks[-1], "cache_control": _MARK}]}
        body.system = None
