"""How a task becomes the arguments of a function: read once, from its signature.

A task gives arguments by name: `params`, and `prompt`, and `model`, `system` and `max_tokens` to a
function that has a parameter of that name (else these three are what ctx.claude asks with). A
single argument of a Struct, dataclass or TypedDict takes them all, as its fields. Values are
converted by the annotations, and what does not fit is refused by name: a spelling mistake must not
run, and be paid for, with a default.

What no task could ever call is refused at the decorator, not at the first task.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, Final

import msgspec
from msgspec import inspect as types

from agentflow import classes
from agentflow.errors import InvalidHandler, InvalidTask
from agentflow.protocol.task import Task

ALSO: Final = ("model", "system", "max_tokens")
"""Fields of a task that are arguments where a function takes them."""

_MISSING: Final = object()
_AT: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_PATHS: Final = (Path, PurePath)
_ANSWER: Final = "return"
_BINARY: Final = (types.BytesType, types.ByteArrayType, types.MemoryViewType)


class Arguments:
    """What a function takes. Raises InvalidHandler where no task could give it.

    `context` is the class of its context; `wrong_context` is for functions of the other sort.
    """

    __slots__ = (
        "_fields",
        "_kind",
        "_model",
        "_optional",
        "_required",
        "_takes_more",
        "answer",
        "binary",
        "context",
        "whole",
    )

    def __init__(
        self, function: Callable[..., Any], kind: str, *, context: type, wrong_context: type
    ) -> None:
        self._kind = kind
        name = getattr(function, "__qualname__", repr(function))
        signature = inspect.signature(function)
        hints = _hints(function, name)
        self.context: str | None = None
        """Name of the parameter that takes the context."""
        plain: dict[str, inspect.Parameter] = {}
        for position, parameter in enumerate(signature.parameters.values()):
            _check_form(parameter, name)
            hint = hints.get(parameter.name)
            if isinstance(hint, type) and issubclass(hint, wrong_context):
                asked = "an async" if hint.__name__ == "Context" else "a plain"
                raise InvalidHandler(
                    f"{name}: {parameter.name} is a {hint.__name__}, which only {asked} function "
                    f"can use; annotate it with agentflow.{context.__name__}"
                )
            if hint is context or (hint is None and position == 0 and parameter.name == "ctx"):
                if self.context is not None:
                    raise InvalidHandler(f"{name} takes two contexts")
                self.context = parameter.name
            else:
                plain[parameter.name] = parameter
        self._optional = False
        self._takes_more = False
        self.whole = _whole(plain, hints)
        """Name of the parameter that takes all arguments as its fields."""
        if self.whole is not None:
            self._model: Any = hints[self.whole]
            self._fields, self._required = _fields_of(self._model)
            self._takes_more = classes.takes_more(self._model)
            self._optional = plain[self.whole].default is not inspect.Parameter.empty
        else:
            self._model = _model_of(plain, hints, name)
            self._fields = tuple(plain)
            self._required = tuple(
                one.name for one in plain.values() if one.default is inspect.Parameter.empty
            )
        _check_types(self._model, name)
        self.answer: Any = hints.get(_ANSWER, Any)
        """What the function returns."""
        _check_types(self.answer, name, "what it returns")
        parts = _within(types.type_info(self.answer), set())
        self.binary = any(isinstance(part, _BINARY) for part in parts)
        """Whether it says that it returns bytes: they become base64."""

    def from_task(self, task: Task) -> dict[str, Any]:
        """The arguments a task gives, context aside. Raises InvalidTask naming one at fault."""
        values = self._given(task)
        if self._optional and not values:
            return {}
        for field in values:
            if field not in self._fields and not self._takes_more:
                raise InvalidTask(f"{self._where(task)} takes no {_shown(field)}; {self._takes()}")
        for field in self._required:
            if field not in values:
                raise InvalidTask(f"{self._where(task)} needs {_shown(field)}; {self._takes()}")
        return self._convert(values, task)

    def _given(self, task: Task) -> dict[str, Any]:
        values = dict(task.params)
        for field in ("prompt", *ALSO):
            value = getattr(task, field)
            if value is None:
                continue
            if field in values:
                raise InvalidTask(f"{self._where(task)}: both {field} and params.{field} are given")
            if (
                field in self._fields
                or self._takes_more
                or field == "prompt"
                or self.context is None
            ):
                values[field] = value
        return values

    def _convert(self, values: Mapping[str, Any], task: Task) -> dict[str, Any]:
        try:
            taken = classes.read(values, self._model)
        except msgspec.ValidationError as error:
            at = _AT.fullmatch(str(error))
            what = f"{_shown(at[2])}: {at[1]}" if at else str(error)
            raise InvalidTask(f"{self._where(task)}: {what}") from None
        except RecursionError:
            raise InvalidTask(f"{self._where(task)}: params are nested too deeply") from None
        if self.whole is not None:
            return {self.whole: taken}
        return {
            name: value for name in self._fields if (value := getattr(taken, name)) is not _MISSING
        }

    def _where(self, task: Task) -> str:
        return f"task {task.id}: kind {self._kind}"

    def _takes(self) -> str:
        if not self._fields:
            return "it takes nothing"
        return f"it takes {', '.join(map(_shown, self._fields))}"


def _shown(field: str) -> str:
    return field if field in ("prompt", *ALSO) else f"params.{field}"


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise InvalidHandler(
            f"{name}: its annotations cannot be read ({error}); what they name must stand at the "
            "top of the module, above the function"
        ) from error


def _check_form(parameter: inspect.Parameter, name: str) -> None:
    match parameter.kind:
        case inspect.Parameter.VAR_POSITIONAL:
            problem, advice = f"*{parameter.name}", "take a list"
        case inspect.Parameter.VAR_KEYWORD:
            problem, advice = f"**{parameter.name}", "name what it takes, or take a dict"
        case inspect.Parameter.POSITIONAL_ONLY:
            problem, advice = f"{parameter.name} before the /", "remove the /"
        case _:
            return
    raise InvalidHandler(
        f"{name}: {problem} cannot be given, as a task gives arguments by name; {advice}"
    )


def _whole(plain: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> str | None:
    if len(plain) != 1:
        return None
    (name,) = plain
    if name not in hints or name == "prompt":
        return None
    if classes.is_model(hints[name]):
        return name
    try:
        info = types.type_info(hints[name])
    except TypeError:
        return None  # told later, with the other types that cannot be used
    if isinstance(info, types.StructType):
        return None if info.array_like else name
    return name if isinstance(info, types.DataclassType | types.TypedDictType) else None


def _fields_of(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names in JSON of a structure's fields, and of those that must be given."""
    if classes.is_model(model):
        schema = classes.schema_of(model)
        return tuple(schema.get("properties", ())), tuple(schema.get("required", ()))
    info = types.type_info(model)
    assert isinstance(info, types.StructType | types.DataclassType | types.TypedDictType)
    names = [field.encode_name for field in info.fields]
    required = tuple(field.encode_name for field in info.fields if field.required)
    if isinstance(info, types.StructType) and info.tag_field is not None:
        names.append(info.tag_field)
    return tuple(names), required


def _model_of(
    plain: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], name: str
) -> type[msgspec.Struct]:
    """A structure with the parameters as its fields, so that one conversion does for all."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for one in plain.values():
        hint = hints.get(one.name, Any)
        # A default is the function's own affair: it may be of any type, and mutable.
        required = one.default is inspect.Parameter.empty
        fields.append((one.name, hint) if required else (one.name, hint, _MISSING))
    try:
        return msgspec.defstruct("Arguments", fields, kw_only=True)
    except Exception as error:
        raise InvalidHandler(f"{name}: its arguments cannot be read: {error}") from None


def _check_types(model: Any, name: str, what: str = "an argument") -> None:
    try:
        msgspec.json.Decoder(model, dec_hook=classes.decode_hook)
        foreign = _foreign(types.type_info(model))
    except Exception as error:
        raise InvalidHandler(f"{name}: {what} has a type that JSON cannot hold: {error}") from None
    if foreign is not None:
        shown = getattr(foreign, "__qualname__", repr(foreign))
        raise InvalidHandler(
            f"{name}: {what} is a {shown}, which JSON cannot hold; use types that msgspec knows "
            "(numbers, text, lists, dicts, dataclasses, msgspec.Struct, datetime, Path, ...), or "
            "models of pydantic"
        )


def _foreign(info: Any) -> Any:
    """The first type within that is none of msgspec's; None when all are."""
    custom = (one.cls for one in _within(info, set()) if isinstance(one, types.CustomType))
    return next(
        (kind for kind in custom if kind not in _PATHS and not classes.is_model(kind)), None
    )


def _within(info: Any, seen: set[int]) -> Iterator[Any]:
    """A type and all that it is made of."""
    if isinstance(info, tuple | list):
        for one in info:
            yield from _within(one, seen)
    if not isinstance(info, types.Type | types.Field) or id(info) in seen:
        return
    seen.add(id(info))
    yield info
    for field in info.__struct_fields__:
        if field not in ("default", "default_factory", "extra", "extra_json_schema"):
            yield from _within(getattr(info, field), seen)
