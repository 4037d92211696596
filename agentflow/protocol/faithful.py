"""Whether JSON holds a value as it is: what would be changed or dropped on the way is refused.

msgspec writes NaN as null, bytes as base64, and two keys of one spelling as one: each loses
something without a word.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from agentflow.classes import is_model

_AS_IT_IS: Final = frozenset({str, int, bool, type(None)})
_BYTES: Final = (bytes, bytearray, memoryview)


def flaw(value: Any, name: str, *, binary: bool = False) -> str | None:
    """What JSON cannot hold of `value`, as a sentence that names the place; None when all is well.

    With `binary` bytes are meant as such, and base64 is what they become. Raises RecursionError.
    """
    kind = type(value)
    if kind in _AS_IT_IS:
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else _not_finite(value, name)
    if isinstance(value, _BYTES):
        return None if binary else _is_bytes(value, name)
    # To ask an abstract class takes as long as all the rest, and nearly all mappings are dicts.
    if kind is dict or isinstance(value, Mapping):
        parts = ((f"{name}.{key}" if name else str(key), part) for key, part in value.items())
        return _clash(value, name) or _first(parts, binary)
    if isinstance(value, list | tuple | set | frozenset):
        return _first(((f"{name}[{index}]", part) for index, part in enumerate(value)), binary)
    return _first(_fields(value, name), binary)


def _first(parts: Iterable[tuple[str, Any]], binary: bool) -> str | None:
    for name, part in parts:
        if type(part) not in _AS_IT_IS and (wrong := flaw(part, name, binary=binary)):
            return wrong
    return None


def _fields(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Enum):
        return [(name, value.value)]
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif is_model(type(value)):
        names = tuple(type(value).model_fields)
    elif dataclasses.is_dataclass(value):
        names = tuple(field.name for field in dataclasses.fields(value))
    else:
        return []
    return [(f"{name}.{one}" if name else one, getattr(value, one, None)) for one in names]


def _not_finite(value: float, name: str) -> str:
    said = "NaN" if math.isnan(value) else "infinite"
    return f"{name} is {said}, which JSON cannot hold; give a finite number, or null"


def _is_bytes(value: Any, name: str) -> str:
    return (
        f"{name} is {type(value).__name__}, not text; decode it (value.decode()), or write what is "
        "binary as base64"
    )


def _clash(value: Mapping[Any, Any], name: str) -> str | None:
    """Two keys that JSON spells alike."""
    if all(type(key) is str for key in value):
        return None
    spelled: dict[str, Any] = {}
    for key in value:
        text = _spelled(key)
        if text in spelled:
            return (
                f"{name or 'it'} has the keys {spelled[text]!r:.60} and {key!r:.60}, which are one "
                "key in JSON; keep one of them"
            )
        spelled[text] = key
    return None


def _spelled(key: Any) -> str:
    try:
        return str(next(iter(msgspec.to_builtins({key: None}, str_keys=True))))
    except (TypeError, ValueError):
        return repr(key)  # no key at all: told where it is written
