"""A route: what a request to Claude goes by, and whose limits it meets."""

from __future__ import annotations

from typing import NamedTuple


class Route(NamedTuple):
    """A credential, by the name of its pool, and the family of models that shares its limits."""

    pool: str
    family: str
