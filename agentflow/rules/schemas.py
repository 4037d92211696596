"""JSON Schemas that answers must fit, whoever wrote them: checked in bounded time, nothing fetched.

A schema comes with a task, so it is anybody's. The library decides in linear time whether a value
fits, references that lead back included, and its regular expressions do not backtrack. What is not
linear is refused (a schema that its references unfold beyond all measure) or left out (naming the
place of a fault where a schema refers to itself and the answer is deep).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
import msgspec

from agentflow.errors import InvalidTask
from agentflow.protocol import limits

UNFOLDED: Final = 50_000
"""Schemas within schemas, references followed: 10 ms of checking for each value of an answer."""
NAMING: Final = 1_000_000
"""Steps that naming the place of a fault may take."""
PATTERN_BYTES: Final = 4 * limits.MIB
"""Of a compiled `pattern`; repetitions of repetitions grow beyond it."""
FAULT: Final = 500
"""Characters of a fault that are told: its sentence quotes the value."""

_PATTERNS: Final = jsonschema_rs.RegexOptions(PATTERN_BYTES, PATTERN_BYTES)


class Schema:
    """A schema, ready to be asked. Raises InvalidTask where it is none, or may not be."""

    def __init__(self, schema: dict[str, Any]) -> None:
        size = len(msgspec.json.encode(schema))
        if size > limits.SCHEMA_BYTES:
            raise _refused(f"it has {size:,} bytes, at most {limits.SCHEMA_BYTES:,} are allowed")
        self._unfolded, self.recursive = _unfolded(schema)
        if self._unfolded >= UNFOLDED:
            raise _refused(f"its references unfold to more than {UNFOLDED:,} schemas")
        try:
            self._validator = jsonschema_rs.validator_for(
                schema, pattern_options=_PATTERNS, validate_formats=True, retriever=_fetch_nothing
            )
        except ValueError as error:
            text = _sentence(error).rpartition(" failed: ValueError: ")[2]
            if text.endswith('is not a "regex"'):
                text += "; patterns know no look-around and no back-reference"
            raise _refused(text) from None

    def fault(self, value: Any) -> str | None:
        """What does not fit, and where, as a sentence; None where all does."""
        try:
            if self._validator.is_valid(value):
                return None
            if self.recursive and self._unfolded ** _depth(value) > NAMING:
                return "it does not fit the schema"
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            at = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in _path(error))
            return f"{_sentence(error)} (at ${at[:200]})"
        except (ValueError, RecursionError):
            return "it is nested too deeply"
        return None


def checked(schema: dict[str, Any]) -> Schema:
    """The schema, ready to be asked; the last ones are kept. Raises InvalidTask."""
    try:
        text = msgspec.json.encode(schema)
    except (RecursionError, TypeError, ValueError) as error:
        raise _refused(f"it cannot be written as JSON: {error}") from None
    return _kept(text)


def check_form(schema: dict[str, Any]) -> None:
    """Raise InvalidTask for what is no JSON Schema, whoever is to check answers by it."""
    try:
        jsonschema_rs.meta.validate(schema)
    except ValueError as error:
        raise _refused(_sentence(error)) from None


@lru_cache(maxsize=32)
def _kept(text: bytes) -> Schema:
    return Schema(msgspec.json.decode(text))


def _refused(why: str) -> InvalidTask:
    return InvalidTask(f"the schema cannot be used: {why}")


def _fetch_nothing(uri: str) -> Any:
    raise ValueError(f"{uri[:200]} is not in the schema, and nothing is fetched")


def _sentence(error: ValueError) -> str:
    text = str(getattr(error, "message", error)).strip().partition("\n")[0]
    return text if len(text) <= FAULT else text[: FAULT - 3] + "..."


def _path(error: jsonschema_rs.ValidationError) -> list[str | int]:
    return list(error.instance_path)


def _depth(value: Any) -> int:
    """How deep a value is nested."""
    deepest, within = 0, [(value, 1)]
    while within:
        one, depth = within.pop()
        deepest = max(deepest, depth)
        parts = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        within += [(part, depth + 1) for part in parts]
    return deepest


def _unfolded(schema: Any) -> tuple[int, bool]:
    """How many schemas it is with every reference followed once, and whether one leads back.

    A reference that is not found here leads back as far as we know.
    """
    counts: dict[int, int] = {}
    leads_back = False

    def count(node: Any, above: frozenset[int], depth: int) -> int:
        nonlocal leads_back
        if depth > limits.SCHEMA_DEPTH:
            raise _refused(f"it is nested deeper than {limits.SCHEMA_DEPTH} levels")
        if not isinstance(node, dict | list):
            return 0
        if id(node) in above:
            leads_back = True
            return 1
        if id(node) not in counts:
            total, inside = 1, above | {id(node)}
            for part in _parts(node, schema):
                if part is _ELSEWHERE:
                    leads_back = True
                else:
                    total += count(part, inside, depth + 1)
                if total >= UNFOLDED:
                    break
            counts[id(node)] = min(total, UNFOLDED)
        return counts[id(node)]

    return count(schema, frozenset(), 0), leads_back


_ELSEWHERE: Final = object()


def _parts(node: dict[str, Any] | list[Any], root: Any) -> Iterator[Any]:
    """What a schema is made of, and what it refers to."""
    if isinstance(node, list):
        yield from node
        return
    for name, value in node.items():
        if name in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
            yield _target(value, root)
        else:
            yield value


def _target(reference: str, root: Any) -> Any:
    if reference != "#" and not reference.startswith("#/"):
        return _ELSEWHERE
    node = root
    for token in reference[2:].split("/") if len(reference) > 1 else ():
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            return _ELSEWHERE
    return node
