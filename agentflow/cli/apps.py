"""MODULE:APP of the command line: the App of a module on the path or in the current directory."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agentflow.app import App
from agentflow.errors import UsageError

DEFAULT: Final = "app"


def split(target: str, example: str = "") -> tuple[str, str]:
    """The names of the module and of the app in it. Raises UsageError; imports nothing."""
    name, _, attribute = target.partition(":")
    if "/" in name or name.endswith(".py") or not all(map(str.isidentifier, name.split("."))):
        if example:
            raise UsageError(f"{target!r} is not of the form {example}")
        hint = ".".join(Path(name.removesuffix(".py")).parts).strip("./") or "module"
        raise UsageError(f"{target!r} is not of the form module:app, for example {hint}:{DEFAULT}")
    return name, attribute or DEFAULT


def load(target: str) -> App:
    """The app that `target` names. Raises UsageError with what to correct."""
    name, attribute = split(target)
    value = _within(name, attribute, _apps_of)
    if not isinstance(value, App):
        raise UsageError(f"{target} is a {type(value).__name__}, not an agentflow.App")
    return value


def named(target: str, *, example: str) -> Any:
    """What `target`, of the form of the example, names. Raises UsageError."""
    name, attribute = split(target, example)
    return _within(name, attribute, lambda _: "")


def _within(name: str, attribute: str, hint: Callable[[str], str]) -> Any:
    value: Any = _module(name)
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise UsageError(f"module {name} has no {attribute}{hint(name)}")
        value = getattr(value, part)
    return value


def _apps_of(module: str) -> str:
    apps = [key for key, other in vars(sys.modules[module]).items() if isinstance(other, App)]
    return f"; its apps are {', '.join(apps)}" if apps else "; it has no agentflow.App"


def _module(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        # As `python -m` does; the installed program has its own folder there.
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything, and SystemExit too
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (name == missing or name.startswith(f"{missing}.")):
            text = f"there is no module {missing} in this directory or installed"
        else:
            said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
            text = f"module {name} cannot be imported: {said} (AGENTFLOW_DEBUG=1 shows where)"
        raise UsageError(text) from error
