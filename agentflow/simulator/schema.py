"""A value that fits a JSON schema, for structured output and for the inputs of tools.

It knows what schemas of models and tools use: types, enum, const, default, properties, items,
anyOf, allOf, $ref, bounds. What the API does not take of a schema its SDKs write into descriptions,
as `{minimum: 1, maxLength: 5}`; a model reads that, and so it is read here. It does not search: a
`pattern` is not solved.
"""

from __future__ import annotations

import re
from typing import Any, Final

Schema = dict[str, Any]

_TEXT: Final = "SIMULATED"
_FORMATS: Final = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "email": "simulated@example.com",
    "time": "00:00:00Z",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_DEEPEST: Final = 12
_LONGEST: Final = 10_000
_TOLD: Final = re.compile(
    r"\b(minimum|maximum|exclusiveMinimum|exclusiveMaximum|multipleOf|minLength|maxLength|minItems)"
    r": (-?\d+(?:\.\d+)?)"
)


def example(schema: Schema) -> Any:
    """The plainest value that fits."""
    return _example(schema, schema, 0)


def _example(schema: Schema, root: Schema, depth: int) -> Any:
    # A schema that refers to itself has no smallest value; it ends here instead of never.
    if depth > _DEEPEST:
        return None
    schema = _with_told(schema)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return _example(_resolve(schema["$ref"], root), root, depth + 1)
    for name in ("anyOf", "oneOf"):
        if schema.get(name):
            return _example(schema[name][0], root, depth + 1)
    if schema.get("allOf"):
        merged: Schema = {}
        for part in schema["allOf"]:
            merged |= _resolve(part["$ref"], root) if "$ref" in part else part
        return _example(merged, root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: Schema, root: Schema, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    match kind:
        case "object" | None:
            properties: Schema = schema.get("properties", {})
            # A required field that refers back to its own object is the one that never ends.
            wanted = schema.get("required", list(properties) if depth == 0 else [])
            return {
                name: _example(properties.get(name, {"type": "string"}), root, depth + 1)
                for name in wanted
            }
        case "array":
            items = schema.get("items", {"type": "string"})
            count = int(schema.get("minItems", 1 if depth < 3 else 0))
            return [_example(items, root, depth + 1) for _ in range(min(count, _LONGEST))]
        case "string":
            text = _FORMATS.get(schema.get("format", ""), _TEXT)
            text = text.ljust(min(int(schema.get("minLength", 0)), _LONGEST), ".")
            return text[: int(schema.get("maxLength", len(text)))]
        case "integer" | "number":
            return _number(schema, kind == "integer")
        case "boolean":
            return True
        case _:
            return None


def _number(schema: Schema, whole: bool) -> float:
    """The lowest that is allowed, else 1, else the highest."""
    value: float
    step: float = schema.get("multipleOf", 1 if whole else 0)
    if "minimum" in schema:
        value = schema["minimum"]
    elif "exclusiveMinimum" in schema:
        value = schema["exclusiveMinimum"] + (1 if whole else 0.5)
    else:
        highest = schema.get("maximum", schema.get("exclusiveMaximum", 2) - (1 if whole else 0.5))
        value = min(1, highest)
        return value // step * step if step else value
    return -(-value // step) * step if step else value


def _with_told(schema: Schema) -> Schema:
    """With the bounds that stand in the description, in the braces at its end."""
    description = schema.get("description")
    if not isinstance(description, str) or not description.endswith("}"):
        return schema
    told = _TOLD.findall(description[description.rfind("{") :])
    return {name: float(n) if "." in n else int(n) for name, n in told} | schema


def _resolve(reference: str, root: Schema) -> Schema:
    node: Any = root
    for part in reference.removeprefix("#").split("/"):
        if part:
            node = node.get(part, {}) if isinstance(node, dict) else {}
    return node if isinstance(node, dict) else {}
