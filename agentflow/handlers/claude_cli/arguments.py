"""From a task to the arguments of Claude Code. Pure.

What a task may ask for is listed here, and nothing else is passed on: an option that we do not know
may change what the output means, or keep the process from ending. Prompt, system prompt and MCP
configuration go by file: arguments are visible to every user of the machine, and one of them may
not be longer than 128 KiB.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from agentflow.errors import InvalidTask
from agentflow.handlers.claude.request import DEFAULT_MODEL
from agentflow.protocol.task import Task
from agentflow.rules.routes.models import FAMILIES, family

ARGUMENT: Final = 100_000
"""Bytes of one argument; Linux takes 131,071."""

_Word = Annotated[str, Meta(max_length=500, pattern=r"^[^-\x00-\x1f][^\x00-\x1f]*\Z")]
# A name that looks like an option is one, to the first program that is given it.
_Path = Annotated[str, Meta(max_length=1000, pattern=r"^[^-\x00][^\x00]*\Z")]
_Agent = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")]
_Uuid = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
]


class Binary(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a file that is no text."""

    base64: bytes


class Params(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What `params` of a task may hold."""

    tools: list[_Word] | None = None
    allowed_tools: list[_Word] = []
    disallowed_tools: list[_Word] = []
    permission_mode: (
        Literal["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan"] | None
    ) = None
    max_turns: Annotated[int, Meta(ge=1)] | None = None
    max_budget_usd: Annotated[float, Meta(gt=0)] | None = None
    system_mode: Literal["append", "replace"] = "append"
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    fallback_model: _Word | None = None
    json_schema: dict[str, Any] | None = None
    agents: dict[_Agent, dict[str, Any]] | None = None
    mcp_config: dict[str, Any] | None = None
    add_dirs: list[_Path] = []
    bare: bool = False
    session_id: _Uuid | None = None
    resume: _Uuid | None = None
    workspace: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z")] | None = None
    files: dict[_Path, str | Binary] = {}
    collect: list[_Path] = []
    keep: bool = False


ALLOWED: Final = tuple(field.name for field in msgspec.structs.fields(Params))


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `files` are the workspace's own, `private` the ones arguments point at."""

    model: str
    prompt: str
    params: Params
    arguments: tuple[str, ...]
    private: dict[str, str]

    @property
    def session(self) -> str | None:
        """The session to begin or to continue."""
        return self.params.resume or self.params.session_id


PROMPT: Final = "prompt.txt"
SYSTEM: Final = "system.txt"
MCP: Final = "mcp.json"
AGENTS: Final = "config/agents"
"""Where Claude Code looks for agents by itself."""


def build(task: Task, home: str = "") -> Request:
    """What to run for a task, with its private files in the folder `home`.

    Raises InvalidTask, naming the field at fault.
    """
    if task.prompt is None:
        raise InvalidTask(f"task {task.id}: kind claude-cli needs a prompt")
    params = _params(task)
    model = task.model or DEFAULT_MODEL
    if model.startswith("-") or not model.isprintable():
        raise InvalidTask(f"task {task.id}: {model[:80]!r} is not the name of a model")
    private = {PROMPT: task.prompt}
    arguments: list[str] = []

    def option(name: str, *values: object) -> None:
        # One argument with `=`: a value can then never be taken for an option.
        arguments.extend(f"--{name}={value}" for value in values if value is not None)

    def as_json(name: str, field: str, value: dict[str, Any] | None) -> None:
        if value is not None:
            text = msgspec.json.encode(value).decode()
            if len(text.encode()) > ARGUMENT:
                raise InvalidTask(f"task {task.id}: params.{field} is larger than {ARGUMENT} bytes")
            option(name, text)

    option("model", model)
    if params.tools is not None:
        arguments.extend(("--tools", ",".join(params.tools)))  # `--tools=` is no empty list to it
    option("allowed-tools", *params.allowed_tools)
    option("disallowed-tools", *params.disallowed_tools)
    option("permission-mode", params.permission_mode)
    option("max-turns", params.max_turns)
    option("max-budget-usd", params.max_budget_usd)
    option("effort", params.effort)
    option("fallback-model", params.fallback_model)
    option("add-dir", *params.add_dirs)
    as_json("json-schema", "json_schema", params.json_schema)
    private |= {f"{AGENTS}/{name}.md": _agent(agent) for name, agent in _agents(task, params)}
    if params.mcp_config is not None:
        private[MCP] = msgspec.json.encode(params.mcp_config).decode()
        option("mcp-config", f"{home}/{MCP}")
        arguments.append("--strict-mcp-config")
    if task.system is not None:
        private[SYSTEM] = task.system
        prefix = "append-" if params.system_mode == "append" else ""
        option(f"{prefix}system-prompt-file", f"{home}/{SYSTEM}")
    if params.bare:
        arguments.append("--bare")
    return Request(
        model=model, prompt=task.prompt, params=params, arguments=tuple(arguments), private=private
    )


def _agents(task: Task, params: Params) -> list[tuple[str, dict[str, Any]]]:
    """The agents by name. Raises InvalidTask where they would not be read."""
    agents = params.agents or {}
    if agents and params.bare:
        raise InvalidTask(f"task {task.id}: params.agents: with params.bare none are read")
    for name, agent in agents.items():
        if not isinstance(agent.get("prompt"), str) or not isinstance(
            agent.get("description"), str
        ):
            raise InvalidTask(
                f"task {task.id}: params.agents: {name} needs a description and a prompt, two texts"
            )
    return [(name, {"name": name, **agent}) for name, agent in agents.items()]


def _agent(agent: dict[str, Any]) -> str:
    """An agent as its file has it: JSON is YAML too."""
    head = "".join(
        f"{field}: {msgspec.json.encode(value).decode()}\n"
        for field, value in agent.items()
        if field != "prompt" and field.isidentifier()
    )
    return f"---\n{head}---\n{agent['prompt']}\n"


def _params(task: Task) -> Params:
    unknown = [name for name in task.params if name not in ALLOWED]
    if unknown:
        raise InvalidTask(
            f"task {task.id}: kind claude-cli has no params.{unknown[0][:80]}; "
            f"it has {', '.join(ALLOWED)}"
        )
    try:
        params = msgspec.convert(task.params, Params)
    except msgspec.ValidationError as error:
        raise InvalidTask(f"task {task.id}: params: {error}") from None
    for name, paths in (("files", params.files), ("collect", params.collect)):
        for path in paths:
            if not _inside(path):
                raise InvalidTask(
                    f"task {task.id}: params.{name}: {path[:200]!r} is not a path in the workspace"
                )
    if params.session_id and params.resume:
        raise InvalidTask(f"task {task.id}: both params.session_id and params.resume are given")
    if params.resume and not params.workspace:
        raise InvalidTask(
            f"task {task.id}: params.resume needs params.workspace: a session is kept in the "
            "workspace that it began in"
        )
    return params


def _inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts


_ALIASES: Final = frozenset(name for _, name in FAMILIES)


def plain_model(name: str) -> str:
    """The model that Claude Code means by `claude-opus-4-8[1m]`: the suffix is its own."""
    return name.partition("[")[0]


def family_of(name: str) -> str:
    """The family whose limits a model counts against; Claude Code knows `opus` and the like."""
    plain = plain_model(name)
    return plain if plain in _ALIASES else family(plain)
