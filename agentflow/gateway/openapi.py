"""/openapi.json (3.1): made of the routes and of the Structs that they take and give. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from agentflow.gateway.http.problems import TYPE, Problem
from agentflow.gateway.http.route import Route
from agentflow.version import __version__

_REF: Final = "#/components/schemas/{name}"
_SAYS: Final = {
    "400": "The request is wrong.",
    "401": "It needs a token that holds.",
    "403": "The token, or the page, may not do this.",
    "404": "There is no such thing.",
    "409": "It does not go together with what is there.",
    "413": "The body is too large.",
    "415": "The body is of another content type.",
    "422": "The body is wrong, or its key is that of another request.",
    "429": "The queue is full: Retry-After says when to come again.",
    "502": "NATS refused it.",
    "503": "It cannot be served now: Retry-After says when to come again.",
}
_READS: Final = ("400", "401", "403", "404", "503")
_ACTS: Final = (*_READS, "409", "413", "415", "422", "429", "502")


def document(routes: Sequence[Route], url: str) -> dict[str, Any]:
    """The description of the interface at `url`."""
    shown = [route for route in routes if not route.hidden]
    types = [kind for route in shown for kind in (route.body, route.answer) if kind is not None]
    queries = [route.query for route in shown if route.query is not None]
    _, components = msgspec.json.schema_components([*types, *queries, Problem], ref_template=_REF)
    paths: dict[str, Any] = {}
    for route in shown:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, components)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "AgentFlow",
            "version": __version__,
            "description": "The gateway's HTTP interface; docs/api.md has examples.",
        },
        "servers": [{"url": url}],
        "security": [{"token": []}, {"cookie": []}, {}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "agentflow"},
            },
        },
    }


def _operation(route: Route, components: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "summary": route.says,
        "operationId": _name(route),
        "tags": [route.path.split("/")[2] if route.path.startswith("/v1/") else "gateway"],
        "responses": _responses(route, components),
    }
    parameters = _parameters(route, components)
    if parameters:
        told["parameters"] = parameters
    if route.body is not None:
        told["requestBody"] = {
            "required": True,
            "content": {route.takes: {"schema": _schema(route.body)}},
        }
    if route.role is None:
        told["security"] = []
    else:
        told["description"] = f"Needs the role {route.role}."
    return told


def _responses(route: Route, components: dict[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "As asked."}
    if route.answer is not None:
        good["content"] = {route.kind: {"schema": _schema(route.answer)}}
    problem = {TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}
    told = {str(route.status): good}
    told |= {
        status: {"description": _SAYS[status], "content": problem}
        for status in (_READS if route.method == "GET" else _ACTS)
    }
    for status, says in _OTHERS.get((route.method, route.path), {}).items():
        told[status] = {**good, "description": says}
    return told


_OTHERS: Final[dict[tuple[str, str], dict[str, str]]] = {
    ("POST", "/v1/tasks"): {"200": "It was known before, or has ended.", "202": "It goes on."},
    ("GET", "/v1/tasks/{name}/result"): {"202": "It has not ended in time."},
    ("GET", "/v1/tasks/{name}/prompt"): {"410": "It is gone."},
    ("GET", "/readyz"): {"503": "Not ready, and why."},
}


def _parameters(route: Route, components: dict[str, Any]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    if "{name}" in route.path:
        told.append(
            {
                "name": "name",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": f"^({route.names})$"},
            }
        )
    if route.query is not None:
        properties = components[route.query.__name__]["properties"]
        told += [
            {"name": name, "in": "query", "schema": schema} for name, schema in properties.items()
        ]
    if (route.method, route.path) == ("POST", "/v1/tasks"):
        told.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The task's id.",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            }
        )
    if route.kind == "text/event-stream":
        told.append(
            {
                "name": "Last-Event-ID",
                "in": "header",
                "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
            }
        )
    return told


def _schema(kind: Any) -> Any:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return schema


def _name(route: Route) -> str:
    words = re.findall(r"[a-z0-9]+", route.path.replace("{name}", "one"))
    return "_".join([route.method.lower(), *words])
