"""Whether params fit what the SDK's own types say of a request, and which field does not.

The SDK checks nothing itself: what does not fit comes back from the API, task by task. The types
are read and not copied, so a newer SDK brings its new fields. What is newer still is for the API to
judge where a task names the betas it asks with (`lenient`): then fields and types that nobody knows
here pass.

Importing this module imports anthropic, which takes 1.2 s and 74 MB.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import pydantic
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

_LISTS: Final = frozenset({list, Sequence, Iterable})
_MAPPINGS: Final = frozenset({dict, Mapping})
_PLAIN: Final = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_TAGS: Final = ("type", "role")
"""Fields that say which of several objects one is."""


class Fields(typing.NamedTuple):
    """The fields of an object's type, and those that must be given."""

    hints: dict[str, Any]
    required: frozenset[str]


def wrong(params: Mapping[str, Any], besides: Collection[str], *, lenient: bool) -> str | None:
    """What does not fit, as a sentence that names the place; None when all is well.

    `besides`: fields of params that the SDK's type of a request does not have.
    """
    hints = _fields(MessageCreateParamsNonStreaming).hints
    for name, value in params.items():
        if name in hints:
            problem = _wrong(value, hints[name], f"params.{name}", lenient)
        elif name in besides or lenient:
            problem = None
        else:
            problem = (
                f"params.{name} is no field of a request{_meant(name, [*hints, *besides])}; what "
                "only the API knows goes into params.extra_body"
            )
        if problem is not None:
            return problem
    return None


def _wrong(value: Any, hint: Any, at: str, lenient: bool) -> str | None:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is object:
        return None
    if origin is typing.Literal:
        return (
            None
            if value in inner and type(value) is type(inner[0])
            else _no_choice(value, inner, at)
        )
    if origin in (typing.Union, types.UnionType):
        return _wrong_union(value, _alternatives(hint), at, lenient)
    if origin in (typing.Required, typing.NotRequired, typing.Annotated):
        return _wrong(value, inner[0], at, lenient)
    if origin in _LISTS:
        if not isinstance(value, list):
            return f"{at} is {_shown(value)}, not a list"
        parts = (_wrong(one, inner[0], f"{at}[{i}]", lenient) for i, one in enumerate(value))
        return next((problem for problem in parts if problem), None)
    if origin in _MAPPINGS:
        if not isinstance(value, dict):
            return f"{at} is {_shown(value)}, not an object"
        parts = (_wrong(one, inner[1], f"{at}.{name}", lenient) for name, one in value.items())
        return next((problem for problem in parts if problem), None)
    if _is_object(hint):
        return _wrong_object(value, hint, at, lenient)
    return None if _is_plain(value, hint) else f"{at} is {_shown(value)}, not {_name(hint)}"


def _wrong_object(value: Any, hint: Any, at: str, lenient: bool) -> str | None:
    if not isinstance(value, dict):
        return f"{at} is {_shown(value)}, not an object"
    hints, required = _fields(hint)
    for name in hints:
        if name in required and name not in value:
            return f"{at} has no {name}"
    for name, one in value.items():
        if name in hints:
            problem = _wrong(one, hints[name], f"{at}.{name}", lenient)
        else:
            problem = None if lenient else f"{at}.{name} is no field there{_meant(name, hints)}"
        if problem is not None:
            return problem
    return None


def _wrong_union(value: Any, alternatives: tuple[Any, ...], at: str, lenient: bool) -> str | None:
    if isinstance(value, dict):
        alternatives, problem = _tagged(value, alternatives, at)
        if problem is not None:
            return None if lenient else problem
    problems = [_wrong(value, one, at, lenient) for one in alternatives]
    if None in problems:
        return None
    nearer = list if isinstance(value, list) else dict
    for one, problem in zip(alternatives, problems, strict=True):
        about_lists = typing.get_origin(one) in _LISTS
        if (nearer is list and about_lists) or (isinstance(value, dict) and _is_object(one)):
            return problem
    choices = typing.Literal if str in alternatives else None
    names = dict.fromkeys(
        _name(one)
        for one in alternatives
        if one is not type(None) and (not choices or typing.get_origin(one) is not choices)
    )
    return f"{at} is {_shown(value)}, not {' or '.join(names)}"


def _tagged(
    value: dict[str, Any], alternatives: tuple[Any, ...], at: str
) -> tuple[tuple[Any, ...], str | None]:
    """Those that the object says it is, and what is wrong where it is none of them."""
    tag, by_tag, untagged = _by_tag(alternatives)
    if not tag:
        return alternatives, None
    said = value.get(tag)
    if isinstance(said, str) and said in by_tag:
        return by_tag[said], None
    if untagged and (tag not in value or said is None):
        return untagged, None
    if tag not in value:
        return (), f"{at} has no {tag}; it is one of {_listed(by_tag)}"
    return (), _no_choice(said, tuple(by_tag), f"{at}.{tag}")


@cache
def _by_tag(
    alternatives: tuple[Any, ...],
) -> tuple[str, dict[str, tuple[Any, ...]], tuple[Any, ...]]:
    """What tells the objects among them apart: the tag, those of each value, and the others."""
    objects = [one for one in alternatives if _is_object(one)]
    others = tuple(one for one in alternatives if typing.get_origin(one) in _MAPPINGS)
    if len(objects) < 2:
        return "", {}, ()
    tag = next((tag for tag in _TAGS if all(tag in _fields(one).hints for one in objects)), "")
    by_tag: dict[str, tuple[Any, ...]] = {}
    untagged = others
    for one in objects if tag else ():
        for said in _choices(_fields(one).hints[tag]):
            by_tag[said] = (*by_tag.get(said, ()), one)
        if tag not in _fields(one).required:
            untagged = (*untagged, one)
    return tag, by_tag, untagged


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is typing.Literal:
        return [one for one in typing.get_args(hint) if isinstance(one, str)]
    return [said for one in typing.get_args(hint) for said in _choices(one)]


@cache
def _alternatives(hint: Any) -> tuple[Any, ...]:
    """What a union is made of, unions within included."""
    found: list[Any] = []
    for one in typing.get_args(hint):
        if typing.get_origin(one) is typing.Annotated:
            one = typing.get_args(one)[0]
        if typing.get_origin(one) in (typing.Union, types.UnionType):
            found += _alternatives(one)
        else:
            found.append(one)
    return tuple(found)


@cache
def _fields(kind: Any) -> Fields:
    if issubclass(kind, pydantic.BaseModel):
        # A block as an answer had it, given back in the next turn.
        models = kind.model_fields
        required = frozenset(name for name, field in models.items() if field.is_required())
        return Fields({name: field.annotation for name, field in models.items()}, required)
    hints = typing.get_type_hints(kind, include_extras=True)
    # The SDK marks required fields within annotations that are texts, so the class does not know.
    required = frozenset(
        name for name, hint in hints.items() if typing.get_origin(hint) is typing.Required
    )
    return Fields(hints, required)


def _is_object(hint: Any) -> bool:
    # The SDK's TypedDicts are those of typing_extensions, which `typing` does not know.
    return isinstance(hint, type) and (
        hasattr(hint, "__total__") or issubclass(hint, pydantic.BaseModel)
    )


def _is_plain(value: Any, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is type(None) or hint is None:
        return value is None
    return hint in _PLAIN and type(value) is hint


def _name(hint: Any) -> str:
    if _is_object(hint) or typing.get_origin(hint) in _MAPPINGS:
        return "an object"
    if typing.get_origin(hint) in _LISTS:
        return "a list"
    if typing.get_origin(hint) is typing.Literal:
        return _listed(typing.get_args(hint))
    return "null" if hint is type(None) else _PLAIN.get(hint, "a text")


def _shown(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case None:
            return "null"
        case bool():
            return str(value).lower()
    return f"{value!r:.40}"


def _no_choice(value: Any, choices: Sequence[Any], at: str) -> str:
    return f"{at} is {_shown(value)}{_meant(value, choices)}; there are {_listed(choices)}"


def _listed(choices: Iterable[Any]) -> str:
    return ", ".join(str(one) for one in choices)


def _meant(name: object, known: Iterable[Any]) -> str:
    names = [one for one in known if isinstance(one, str)]
    near = difflib.get_close_matches(name, names, 1) if isinstance(name, str) else []
    return f" (did you mean {near[0]}?)" if near else ""
