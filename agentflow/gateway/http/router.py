"""From a method and a path to a route: a tree of the parts of paths, one lookup a part."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route

NAME: Final = "{name}"
REST: Final = "{rest}"
"""The last part of a path that stands for all that follows."""


class _Node:
    __slots__ = ("children", "routes")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.routes: dict[str, tuple[Route, re.Pattern[str]]] = {}


class Router:
    """The routes below a path."""

    def __init__(self, routes: Iterable[Route], base: str = "") -> None:
        self._root = _Node()
        self._base = base
        for route in routes:
            node = self._root
            for part in route.path.strip("/").split("/"):
                node = node.children.setdefault(part, _Node())
            node.routes[route.method] = (route, re.compile(route.names))

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """The route, and what `{name}` stands for. Raises Refusal: 404, 405."""
        base = self._base
        if base:
            if path != base and not path.startswith(f"{base}/"):
                raise nothing(path)
            path = path[len(base) :] or "/"
        node, name = self._root, ""
        parts = path[1:].split("/")
        for at, part in enumerate(parts):
            children = node.children
            if (found := children.get(part)) is not None and part not in (NAME, REST):
                node = found
            elif (found := children.get(NAME)) is not None:
                node, name = found, part
            elif (found := children.get(REST)) is not None:
                node, name = found, "/".join(parts[at:])
                break
            else:
                raise nothing(path)
        routes = node.routes
        chosen = routes.get("GET" if method == "HEAD" else method)
        if chosen is None:
            if not routes:
                raise nothing(path)
            allowed = ", ".join(sorted(routes))
            raise Refusal(405, f"{path} knows {allowed}", headers={"Allow": allowed})
        route, pattern = chosen
        if name and pattern.fullmatch(name) is None:
            raise nothing(path)
        return route, name


def nothing(path: str) -> Refusal:
    """The refusal of a path that leads nowhere."""
    return Refusal(404, f"there is nothing at {path[:200]}; /openapi.json lists what there is")
