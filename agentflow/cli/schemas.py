"""--schema: the JSON Schema of a file, or of a class of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from agentflow import classes
from agentflow.cli import apps
from agentflow.errors import UsageError
from agentflow.rules import schemas


def load(source: str) -> dict[str, Any]:
    """The schema that FILE or MODULE:CLASS gives. Raises UsageError where it cannot be used."""
    path = Path(source)
    of_file = path.is_file() or ":" not in source
    schema = _of_file(path) if of_file else _of_class(source)
    try:
        schemas.checked(schema)
    except UsageError as error:
        raise UsageError(f"--schema {source}: {error}") from None
    return schema


def _of_file(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=dict)
    except OSError as error:
        text = f"--schema: cannot read {path}: {error.strerror or error}"
        if path.suffix != ".json":
            text += "; it is a file with a JSON Schema, or module:Class"
        raise UsageError(text) from None
    except msgspec.ValidationError:
        raise UsageError(f"--schema: {path} holds no JSON object, which a schema is") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"--schema: {path} is no JSON: {error}") from None


def _of_class(source: str) -> dict[str, Any]:
    kind = apps.named(source, example="module:Class")
    try:
        return classes.schema_of(kind)
    except Exception as error:  # of msgspec, of pydantic, or of whatever the class does itself
        raise UsageError(
            f"--schema: {source} has no JSON Schema ({error}); it should be a msgspec.Struct, a "
            "dataclass, a TypedDict or a pydantic model"
        ) from None
