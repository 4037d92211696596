"""Classes of one's own as JSON: written, read, and described by a JSON Schema.

Structs, dataclasses and TypedDicts are msgspec's business. Models of pydantic are told by what they
can do, so that nothing imports pydantic (0.2 s) which does not use it; within other classes they
are read and written by `decode_hook` and `encode_hook`. Pure, and so it knows paths only by what
they can do.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")


def is_model(kind: object) -> bool:
    """Whether it is a class of pydantic's."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json")


def decode_hook(kind: type, value: Any) -> Any:
    """What msgspec does not know by itself: a path, a model. Raises ValueError, TypeError."""
    if is_model(kind):
        return _model(kind, value)
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return kind(value)


def _model(kind: Any, value: Any) -> Any:
    try:
        # As JSON, not as Python: a strict model takes a date as text only there.
        return kind.model_validate_json(msgspec.json.encode(value))
    except ValueError as error:
        if not hasattr(error, "errors"):
            raise
        # Its own text is of many lines, and ends with an address.
        faults = [
            f"{'.'.join(map(str, one['loc'])) or kind.__name__}: {one['msg']}"
            for one in cast(Any, error).errors()
        ]
        raise ValueError("; ".join(faults)) from None


def takes_more(kind: Any) -> bool:
    """Whether a model takes fields that it does not name."""
    return is_model(kind) and kind.model_config.get("extra") == "allow"


def encode_hook(value: Any) -> Any:
    """The other way round. Raises TypeError."""
    if hasattr(value, "__fspath__"):
        return str(value)
    if is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def read(value: Any, kind: type[T]) -> T:
    """Plain JSON values as a class. Raises msgspec.ValidationError that names the place."""
    return msgspec.convert(value, kind, dec_hook=decode_hook)


def read_json(text: str, kind: type[T]) -> T:
    """JSON as a class. Raises msgspec.DecodeError, of which ValidationError is one."""
    return msgspec.json.decode(text, type=kind, dec_hook=decode_hook)


def plain(value: Any) -> Any:
    """A value as JSON's own types. Raises TypeError, ValueError."""
    return msgspec.to_builtins(value, enc_hook=encode_hook)


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a class. Raises TypeError where JSON cannot describe it."""
    if is_model(kind):
        described: dict[str, Any] = kind.model_json_schema()
        return described
    return msgspec.json.schema(kind, schema_hook=_described)


def _described(kind: type) -> dict[str, Any]:
    if is_model(kind):
        inner = schema_of(kind)
        if "$defs" in inner or "$ref" in inner:
            # Its definitions lie at its own root, where no reference from outside would find them.
            raise TypeError(f"{kind.__name__} within another class refers to models of its own")
        return inner
    if hasattr(kind, "__fspath__"):
        return {"type": "string"}
    raise NotImplementedError
