"""The models that GET /v1/models names. POST /v1/messages takes any name.

Release dates are the epoch, which the API itself uses for unknown ones.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

_EPOCH: Final = "1970-01-01T00:00:00Z"
_LARGEST_PAGE: Final = 1000

_YES: Final = {"supported": True}
_CAPABILITIES: Final[dict[str, Any]] = {
    "batch": _YES,
    "citations": _YES,
    "code_execution": _YES,
    "context_management": {
        "clear_thinking_20251015": _YES,
        "clear_tool_uses_20250919": _YES,
        "compact_20260112": _YES,
        "supported": True,
    },
    "effort": {
        **dict.fromkeys(("low", "medium", "high", "xhigh", "max"), _YES),
        "supported": True,
    },
    "image_input": _YES,
    "pdf_input": _YES,
    "server_tools": {"code_execution": _YES, "supported": True, "web_search": _YES},
    "structured_outputs": _YES,
    "thinking": {
        "supported": True,
        "types": dict.fromkeys(("adaptive", "between_tools", "disabled", "enabled"), _YES),
    },
}


class Model(msgspec.Struct, tag="model", kw_only=True):
    id: str
    display_name: str
    line: str
    lifecycle: str = "active"
    created_at: str = _EPOCH
    deprecated_at: str | None = None
    retires_at: str | None = None
    max_input_tokens: int | None = 200_000
    max_tokens: int | None = 128_000
    capabilities: dict[str, Any] = msgspec.field(default_factory=lambda: _CAPABILITIES)


class Page(msgspec.Struct):
    data: list[Model]
    has_more: bool
    first_id: str | None
    last_id: str | None


class InvalidPage(ValueError):
    """The query asks for no page there is."""


def _current(name: str, *, max_tokens: int = 128_000) -> Model:
    line, *version = name.removeprefix("claude-").split("-")
    number = ".".join(part for part in version if len(part) < 8)
    title = f"Claude {line.title()} {number} (simulated)"
    return Model(id=name, display_name=title, line=line, max_tokens=max_tokens)


_MODELS: Final = [
    _current("claude-fable-5-2"),
    _current("claude-mythos-5-2"),
    _current("claude-haiku-5-5"),
    _current("claude-sonnet-5-5"),
    _current("claude-opus-5-5"),
    _current("claude-sonnet-5"),
    _current("claude-opus-5"),
    _current("claude-opus-4-8"),
    _current("claude-sonnet-4-6", max_tokens=64_000),
    _current("claude-haiku-4-5-20251001", max_tokens=64_000),
    msgspec.structs.replace(
        _current("claude-sonnet-4-5-20250929", max_tokens=64_000),
        lifecycle="deprecated",
        deprecated_at="2026-06-01T00:00:00Z",
        retires_at="2026-11-30T00:00:00Z",
    ),
]
_BY_ID: Final = {model.id: model for model in _MODELS} | {
    model.id[:-9]: model for model in _MODELS if model.id[-8:].isdigit()
}


def find(name: str) -> Model | None:
    """The model of that id or undated alias."""
    return _BY_ID.get(name)


def page(query: str) -> Page:
    """The page a query asks for (`limit`, `after_id`, `before_id`); raises InvalidPage."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    text = asked.get("limit", "20")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LARGEST_PAGE):
        raise InvalidPage(f"limit: Expected a number from 1 to {_LARGEST_PAGE}")
    limit = int(text)
    ids = [model.id for model in _MODELS]
    for name in ("after_id", "before_id"):
        if name in asked and asked[name] not in ids:
            raise InvalidPage(f"{name}: no such model")
    if "before_id" in asked:
        stop = ids.index(asked["before_id"])
        start = max(0, stop - limit)
        rest = start > 0
    else:
        start = ids.index(asked["after_id"]) + 1 if "after_id" in asked else 0
        stop = start + limit
        rest = stop < len(ids)
    models = _MODELS[start:stop]
    first, last = (models[0].id, models[-1].id) if models else (None, None)
    return Page(models, rest, first, last)
