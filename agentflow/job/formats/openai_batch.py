"""A line of OpenAI's Batch API, as far as the Messages API can do it. Pure.

    model                      stays where it names a Claude model; else --model must replace it
    messages                   those of system and developer at the start become `system`
    content                    text and images stay
    max_completion_tokens, max_tokens           max_tokens
    stop                       stop_sequences
    temperature, top_p         stay; a temperature above 1 does not exist here
    tools, tool_choice, parallel_tool_calls     tools, tool_choice
    response_format            of json_schema: schema; the answer is then checked
    user                       metadata.user_id
    seed, logprobs false, ...  left out and told: the answer is of the same kind without them

What would change the answer and has no counterpart is refused, field by field.
"""

from __future__ import annotations

from typing import Any, Final

from agentflow.errors import InvalidTask
from agentflow.job.formats.anthropic_batch import custom_id
from agentflow.job.formats.entry import Entry, body_of

CHAT: Final = "/v1/chat/completions"

_SAME: Final = frozenset({"temperature", "top_p"})
_LEFT_OUT: Final = frozenset(
    {"seed", "store", "metadata", "service_tier", "prompt_cache_key", "safety_identifier"}
    | {"prompt_cache_retention", "verbosity", "stream_options"}
)
"""What decides nothing that the answer says; `verbosity` and `seed` only lean on it."""
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "stream": (False,),
    "logprobs": (False,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Values that ask for nothing; any other has no counterpart."""


def row(number: int, value: dict[str, Any]) -> Entry:
    """The task. Raises InvalidTask naming every field that does not map."""
    problems = [f"{name}: no field of a batch line" for name in sorted(value.keys() - _LINE)]
    method, url, body = value.get("method", "POST"), value.get("url", CHAT), value["body"]
    if method != "POST":
        problems.append(f"method {method!r}: only POST")
    if url != CHAT:
        problems.append(f"url {url!r}: only {CHAT} asks for a message")
    if not isinstance(body, dict):
        raise InvalidTask("Expected `object` - at `$.body`")
    if url != CHAT:
        raise InvalidTask("; ".join(problems))
    mapping = _Mapping(problems)
    fields = mapping.request(body)
    if problems:
        raise InvalidTask("of OpenAI's format this has no counterpart: " + "; ".join(problems))
    name = custom_id(value) if "custom_id" in value else None
    return Entry(
        number,
        body_of(fields),
        custom_id=name,
        notes=tuple(mapping.notes),
        foreign_model=mapping.foreign_model,
    )


_LINE: Final = frozenset({"custom_id", "method", "url", "body"})


_FORMAT: Final = frozenset({"type", "json_schema"})
_JSON_SCHEMA: Final = frozenset({"name", "description", "strict", "schema"})
"""`strict` is what a schema is here in any case; `name` is for whoever wrote it."""


class _Mapping:
    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self.notes: list[str] = []
        self.foreign_model: str | None = None

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        params: dict[str, Any] = {}
        for name, value in body.items():
            if value is None or value in _NEUTRAL.get(name, ()):
                continue
            if name in _SAME:
                params[name] = value
            elif name == "model":
                self._model(value, fields)
            elif name == "messages":
                self._messages(value, fields, params)
            elif name in ("max_tokens", "max_completion_tokens"):
                if fields.setdefault("max_tokens", value) != value:
                    self.problems.append("body.max_tokens: max_completion_tokens says otherwise")
            elif name == "stop":
                params["stop_sequences"] = [value] if isinstance(value, str) else value
            elif name == "user":
                params["metadata"] = {"user_id": value}
            elif name == "response_format":
                self._format(value, fields)
            elif name in ("tools", "tool_choice", "parallel_tool_calls"):
                pass  # together, below
            elif name in _LEFT_OUT:
                self.notes.append(f"body.{name}")
            else:
                self.problems.append(f"body.{name}")
        self._tools(body, params)
        heat = params.get("temperature")
        if isinstance(heat, int | float) and heat > 1:
            self.problems.append(f"body.temperature {heat}: at most 1")
        fields["params"] = params
        return fields

    def _model(self, value: Any, fields: dict[str, Any]) -> None:
        if isinstance(value, str) and "claude" in value:
            fields["model"] = value.removeprefix("anthropic/")
        else:
            self.foreign_model = str(value)

    def _messages(self, value: Any, fields: dict[str, Any], params: dict[str, Any]) -> None:
        if not isinstance(value, list):
            self.problems.append("body.messages: no list")
            return
        messages = [self._message(message, at) for at, message in enumerate(value)]
        request = without_system_messages({"messages": messages}, fields, self.problems)
        params["messages"] = request["messages"]

    def _message(self, message: Any, at: int) -> Any:
        where = f"body.messages[{at}]"
        if not isinstance(message, dict):
            self.problems.append(f"{where}: no object")
            return message
        role = message.get("role")
        if role not in ("system", "developer", "user", "assistant"):
            self.problems.append(f"{where}.role {role!r}")
        for name in sorted(message.keys() - {"role", "content"}):
            if message[name] and name in ("name", "refusal"):
                self.notes.append(f"body.messages[].{name}")
            elif message[name]:
                self.problems.append(f"{where}.{name}")
        content = message.get("content")
        if isinstance(content, list):
            content = [self._part(part, f"{where}.content[{n}]") for n, part in enumerate(content)]
        return {"role": role, "content": content}

    def _part(self, part: Any, where: str) -> Any:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            return {"type": "text", "text": part.get("text")}
        if kind == "image_url" and isinstance(part.get("image_url"), dict):
            if part["image_url"].get("detail") not in (None, "auto"):
                self.notes.append("image_url.detail")
            url = part["image_url"].get("url")
            if isinstance(url, str) and url.startswith(("https://", "http://")):
                return {"type": "image", "source": {"type": "url", "url": url}}
            if isinstance(url, str) and url.startswith("data:") and ";base64," in url:
                media, _, data = url.removeprefix("data:").partition(";base64,")
                source = {"type": "base64", "media_type": media, "data": data}
                return {"type": "image", "source": source}
        self.problems.append(f"{where} of type {kind!r}")
        return part

    def _format(self, value: Any, fields: dict[str, Any]) -> None:
        where = "body.response_format"
        inner = value.get("json_schema") if isinstance(value, dict) else None
        if not isinstance(inner, dict) or value.get("type") != "json_schema":
            kind = value.get("type") if isinstance(value, dict) else value
            self.problems.append(f"{where} of type {kind!r:.80}: only json_schema, with a schema")
            return
        self.problems += [f"{where}.{name}" for name in sorted(value.keys() - _FORMAT)]
        where += ".json_schema"
        self.problems += [f"{where}.{name}" for name in sorted(inner.keys() - _JSON_SCHEMA)]
        if not isinstance(inner.get("schema"), dict):
            self.problems.append(f"{where}.schema: no object, which a schema is")
            return
        if inner.get("description"):
            self.notes.append(f"{where}.description")
        fields["schema"] = inner["schema"]

    def _tools(self, body: dict[str, Any], params: dict[str, Any]) -> None:
        tools = [self._tool(tool, at) for at, tool in enumerate(body.get("tools") or ())]
        if tools:
            params["tools"] = tools
        choice = body.get("tool_choice")
        if choice is None and body.get("parallel_tool_calls") is False and tools:
            choice = "auto"
        if choice is not None:
            params["tool_choice"] = self._choice(choice)
            if body.get("parallel_tool_calls") is False and params["tool_choice"]:
                params["tool_choice"]["disable_parallel_tool_use"] = True

    def _tool(self, tool: Any, at: int) -> Any:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            self.problems.append(f"body.tools[{at}]")
            return tool
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        mapped = {"name": function["name"], "input_schema": schema}
        for name in ("description", "strict"):
            if function.get(name):
                mapped[name] = function[name]
        where = f"body.tools[{at}]"
        self.problems += [f"{where}.{name}" for name in sorted(tool.keys() - {"type", "function"})]
        unknown = sorted(function.keys() - {"name", "description", "parameters", "strict"})
        self.problems += [f"{where}.function.{name}" for name in unknown]
        return mapped

    def _choice(self, choice: Any) -> dict[str, Any]:
        plain = {"auto": "auto", "none": "none", "required": "any"}
        if isinstance(choice, str) and choice in plain:
            return {"type": plain[choice]}
        if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
            return {"type": "tool", "name": choice["function"].get("name")}
        self.problems.append("body.tool_choice")
        return {}


def without_system_messages(
    request: dict[str, Any], fields: dict[str, Any], problems: list[str] | None = None
) -> dict[str, Any]:
    """System messages at the start of a conversation as `system`, where the task has none."""
    messages = request.get("messages")
    if not isinstance(messages, list):
        return request
    texts: list[str] = []
    while messages and isinstance(messages[0], dict):
        first = messages[0]
        if first.get("role") not in ("system", "developer"):
            break
        text = _text(first.get("content"))
        if text is None or "system" in fields or "system" in request:
            break
        texts.append(text)
        messages = messages[1:]
    late = any(
        isinstance(one, dict) and one.get("role") in ("system", "developer") for one in messages
    )
    if late:
        what = "a system message that is not a text at the start of messages"
        if problems is None:
            raise InvalidTask(f"{what}; give it as system")
        problems.append(what)
    if not texts:
        return request
    fields["system"] = "\n\n".join(texts)
    return {**request, "messages": messages}


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        if len(parts) == len(content) and all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if isinstance(part, str))
    return None
