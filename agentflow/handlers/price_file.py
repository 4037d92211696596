"""Where prices come from: the table of this version, and the user's own file over it.

The user's file has the form of rules/prices.json; only `models` with `input` and `output` is
needed. It is `$AGENTFLOW_PRICES`, else `agentflow/prices.json` in the user's configuration folder
(`$XDG_CONFIG_HOME`, else `~/.config`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from agentflow.errors import UsageError
from agentflow.rules.routes import prices
from agentflow.rules.routes.prices import Prices


def own_file(environ: Mapping[str, str] = os.environ) -> tuple[Path, bool]:
    """Path of the user's prices, and whether it was asked for by name."""
    named = environ.get("AGENTFLOW_PRICES")
    if named:
        return Path(named).expanduser(), True
    folder = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return folder / "agentflow" / "prices.json", False


def load(environ: Mapping[str, str] = os.environ) -> Prices:
    """The prices to use. Raises UsageError when the user's file cannot be used.

    A broken file is no reason to fall back on list prices: cost limits would hold by wrong sums.
    """
    ours = resources.files("agentflow.rules").joinpath("prices.json").read_bytes()
    base = prices.parse(ours, "rules/prices.json")
    path, named = own_file(environ)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if named:
            raise UsageError(f"AGENTFLOW_PRICES names {path}, which does not exist") from None
        return base
    except OSError as error:
        raise UsageError(f"the prices in {path} cannot be read: {error.strerror}") from None
    return prices.merged(base, prices.parse(data, str(path)))
