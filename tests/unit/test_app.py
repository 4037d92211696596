"""An app's functions: which are refused at the decorator, and how a task becomes arguments."""

import asyncio
import dataclasses
import enum
import functools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypedDict

import msgspec
import pytest

import agentflow
from agentflow.cli import apps
from agentflow.errors import Fail, InvalidHandler, InvalidTask, Retry, UsageError
from agentflow.handlers.contract import AttemptFailed, Outcome, Run, defaults_of
from agentflow.handlers.functions.context import ClaudeAnswer
from agentflow.handlers.functions.function import Definition
from agentflow.protocol.record import Usage
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Defaults, Task


class Options(msgspec.Struct):
    path: Path
    words: int = 50
    prompt: str | None = None


class Renamed(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    first_name: str


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Pair(TypedDict):
    left: str
    right: str


class Foreign:
    pass


def task_of(**fields: Any) -> Task:
    return Task(id="t", queue="default", priority=Priority.NORMAL, kind="k", **fields)


def definition(function: Callable[..., Any]) -> Definition:
    return Definition(function, "k", retries=None, timeout=None)


def arguments(function: Callable[..., Any], prompt: str | None = None, **params: Any) -> Any:
    return definition(function).arguments.from_task(task_of(prompt=prompt, params=params))


async def run(function: Callable[..., Any], **fields: Any) -> Outcome:
    app = agentflow.App()
    app.task(kind="k")(function)
    return await app.handlers()["k"](Run(task_of(**fields)))


# The decorator.


def test_a_function_stays_a_function() -> None:
    app = agentflow.App()

    @app.task
    def double(number: int) -> int:
        return 2 * number

    @app.task(kind="other.name", retries=0, timeout=60)
    async def triple(number: int) -> int:
        return 3 * number

    assert double(2) == 4
    assert app.kinds == ["double", "other.name"]
    assert defaults_of(app.handlers()) == {
        "double": Defaults(),
        "other.name": Defaults(timeout=60.0, max_attempts=1),
    }


def takes_list(*paths: str) -> None: ...
def takes_any(**more: str) -> None: ...
def takes_position(path: str, /) -> None: ...
def takes_foreign(thing: Foreign) -> None: ...
def takes_foreign_within(things: dict[str, list[Foreign]]) -> None: ...
def takes_union(thing: list[int] | tuple[int, ...]) -> None: ...
def returns_foreign() -> Foreign | None: ...
def unknown_name(path: "Missing") -> None: ...  # type: ignore[name-defined] # noqa: F821
def sync_with_async_context(ctx: agentflow.Context) -> None: ...
async def async_with_sync_context(ctx: agentflow.SyncContext) -> None: ...
def two_contexts(ctx: agentflow.SyncContext, other: agentflow.SyncContext) -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Shop:
    def order(self, number: int) -> int:
        return number

    @classmethod
    def made(cls) -> int:
        return 1

    @staticmethod
    def free() -> int:
        return 1

    @property
    def size(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (takes_list, r"takes_list: \*paths cannot be given, as a task gives .* take a list"),
        (takes_any, r"takes_any: \*\*more cannot be given"),
        (takes_position, r"takes_position: path before the / .* remove the /"),
        (takes_foreign, "takes_foreign: an argument is a Foreign, which JSON cannot hold"),
        (takes_foreign_within, "an argument is a Foreign"),
        (takes_union, "more than one array-like"),
        (returns_foreign, "returns_foreign: what it returns is a Foreign"),
        (unknown_name, "'Missing' is not defined.* above the function"),
        (sync_with_async_context, "ctx is a Context, .* annotate it with agentflow.SyncContext"),
        (async_with_sync_context, "ctx is a SyncContext, .* with agentflow.Context"),
        (two_contexts, "two_contexts takes two contexts"),
        (generator, "generator yields"),
        (async_generator, "async_generator yields"),
        (Foreign, "Foreign is not a function.* put @app.task above a def"),
        (42, "42 is not a function"),
        (Shop.order, r"Shop.order is a method.* app.task\(kind=\"order\"\)\(Shop\(\).order\)"),
        (Shop.__dict__["made"], "made is a classmethod; take the function out of its class"),
        (Shop.__dict__["free"], "free is a staticmethod; take the function out of its class"),
        (Shop.__dict__["size"], "is a property; take the function out of its class"),
        (
            functools.partial(generator, 1),
            r"is a partial.* def name\(...\): return generator\(...\)",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None) or "",
)
def test_what_no_task_can_call_is_refused(function: Any, sentence: str) -> None:
    with pytest.raises(InvalidHandler, match=sentence):
        agentflow.App().task(kind="k")(function)


@pytest.mark.parametrize("kind", ["", "with space", "x" * 65, "a/b", 7])
def test_a_kind_is_a_name(kind: Any) -> None:
    with pytest.raises(InvalidHandler, match="cannot name a kind"):
        agentflow.App().task(kind=kind)(takes_nothing)


@pytest.mark.parametrize("retries", [-1, 100, 1.5, True, "3"])
def test_retries_are_a_number(retries: Any) -> None:
    with pytest.raises(InvalidHandler, match="takes_nothing: retries is a number from 0 to 99"):
        agentflow.App().task(kind="k", retries=retries)(takes_nothing)


@pytest.mark.parametrize("timeout", [0, -1, 86_401, float("nan"), float("inf"), True, "60"])
def test_a_timeout_is_a_number(timeout: Any) -> None:
    with pytest.raises(InvalidHandler, match="takes_nothing: timeout is a number of seconds"):
        agentflow.App().task(kind="k", timeout=timeout)(takes_nothing)


def test_a_kind_without_its_name_is_told_how_to_write_it() -> None:
    app = agentflow.App()
    with pytest.raises(InvalidHandler, match=r'above one write @app.task\(kind="order"\)'):
        app.task("order")  # type: ignore[call-overload]
    with pytest.raises(InvalidHandler, match=r'as in @app.task\(kind="order"\)'):
        app.task(lambda: 1)


def test_a_method_of_an_object_is_a_function() -> None:
    app = agentflow.App()
    app.task(kind="order")(Shop().order)
    assert app.kinds == ["order"]


def test_a_kind_has_one_function() -> None:
    app = agentflow.App()
    app.task(kind="k")(takes_nothing)
    with pytest.raises(InvalidHandler, match="kind k has two functions"):
        app.task(kind="k")(takes_nothing)


def test_an_app_without_tasks_is_told() -> None:
    with pytest.raises(UsageError, match="this app has no tasks"):
        agentflow.App().handlers()


# Arguments.


def takes_nothing() -> None: ...
def by_name(path: Path, words: int = 50, tags: list[str] = ["a"]) -> None: ...  # noqa: B006
def of_prompt(prompt: str, model: str = "m") -> None: ...
def whole(options: Options) -> None: ...
def whole_or_not(options: Options = Options(Path("here"))) -> None: ...  # noqa: B008
def renamed(one: Renamed) -> None: ...
def point(where: Point) -> None: ...
def pair(both: Pair) -> None: ...
def point_among(where: Point, name: str) -> None: ...
def typed(
    when: datetime, money: Decimal, mode: Literal["a", "b"], maybe: Point | None, plain
) -> None: ...  # type: ignore[no-untyped-def]
def unnamed_context(ctx, path: str) -> None: ...  # type: ignore[no-untyped-def]
def context_last(path: str, run: agentflow.SyncContext) -> None: ...
def context_named_otherwise(ctx: str) -> None: ...


def test_arguments_come_by_name_and_the_function_keeps_its_defaults() -> None:
    assert arguments(by_name, path="a/b") == {"path": Path("a/b")}
    found = arguments(by_name, path="x", words=3, tags=[])
    assert found == {"path": Path("x"), "words": 3, "tags": []}
    assert arguments(takes_nothing) == {}


def test_the_prompt_is_an_argument() -> None:
    assert arguments(of_prompt, "hello") == {"prompt": "hello"}
    assert arguments(of_prompt, prompt="hello") == {"prompt": "hello"}
    found = definition(of_prompt).arguments.from_task(task_of(prompt="hello", model="claude"))
    assert found == {"prompt": "hello", "model": "claude"}


def test_one_structure_takes_all() -> None:
    assert arguments(whole, path="a") == {"options": Options(Path("a"))}
    assert arguments(whole, "hi", path="a") == {"options": Options(Path("a"), prompt="hi")}
    assert arguments(whole_or_not) == {}
    assert arguments(whole_or_not, path="a") == {"options": Options(Path("a"))}
    assert arguments(renamed, firstName="Ada") == {"one": Renamed("Ada")}
    assert arguments(point, x=1) == {"where": Point(1)}
    assert arguments(pair, left="l", right="r") == {"both": {"left": "l", "right": "r"}}


def test_one_structure_among_others_is_an_argument() -> None:
    found = arguments(point_among, where={"x": 1}, name="n")
    assert found == {"where": Point(1), "name": "n"}


def test_values_become_what_the_annotations_say() -> None:
    given = {"when": "2026-01-02T03:04:05Z", "money": "1.10", "mode": "b"}
    assert arguments(typed, **given, maybe={"x": 2}, plain=[1, None]) == {
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "money": Decimal("1.10"),
        "mode": "b",
        "maybe": Point(2),
        "plain": [1, None],
    }


@pytest.mark.parametrize("function", [unnamed_context, context_last])
def test_the_context_is_no_argument(function: Callable[..., Any]) -> None:
    assert arguments(function, path="x") == {"path": "x"}
    with pytest.raises(InvalidTask, match=r"takes no params\.ctx"):
        arguments(function, path="x", ctx="mine")


def test_an_annotated_ctx_that_is_no_context_is_an_argument() -> None:
    assert arguments(context_named_otherwise, ctx="x") == {"ctx": "x"}


@pytest.mark.parametrize(
    ("function", "fields", "sentence"),
    [
        (by_name, {}, r"task t: kind k needs params\.path; it takes params\.path, params\.words"),
        (by_name, {"path": "a", "wrods": 3}, r"kind k takes no params\.wrods; it takes params"),
        (by_name, {"path": 3}, r"kind k: params\.path: Expected `str`, got `int`"),
        (by_name, {"path": "a", "words": "3"}, r"params\.words: Expected `int`, got `str`"),
        (by_name, {"path": "a", "tags": ["b", 3]}, r"params\.tags\[1\]: Expected `str`"),
        (of_prompt, {}, "kind k needs prompt; it takes prompt, model"),
        (whole, {"words": 3}, r"needs params\.path"),
        (whole, {"path": "a", "wrods": 3}, r"takes no params\.wrods"),
        (renamed, {"first_name": "Ada"}, r"takes no params\.first_name; it takes params\.firstN"),
        (point_among, {"where": {}, "name": "n"}, r"params\.where: Object missing .*`x`"),
        (takes_nothing, {"a": 1}, r"takes no params\.a; it takes nothing"),
    ],
)
def test_what_does_not_fit_is_named(
    function: Callable[..., Any], fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidTask, match=sentence):
        arguments(function, **fields)


def test_what_is_given_twice_or_taken_by_nobody_is_named() -> None:
    with pytest.raises(InvalidTask, match=r"both prompt and params\.prompt are given"):
        definition(of_prompt).arguments.from_task(task_of(prompt="a", params={"prompt": "b"}))
    with pytest.raises(InvalidTask, match="takes no prompt"):
        arguments(by_name, "a", path="a")
    with pytest.raises(InvalidTask, match="takes no model"):
        definition(by_name).arguments.from_task(task_of(model="m", params={"path": "a"}))
    # With a context it is what ctx.claude asks with.
    definition(unnamed_context).arguments.from_task(task_of(model="m", params={"path": "a"}))


def test_arguments_nested_without_end_are_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    found = definition(typed).arguments
    given = {"when": "2026-01-02T03:04:05Z", "money": "1", "mode": "a", "maybe": None}
    found.from_task(task_of(params={**given, "plain": deep}))  # any value: it is passed on as it is
    with pytest.raises(InvalidTask):
        found.from_task(task_of(params={**given, "plain": 1, "maybe": deep}))


# Results.


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("text", Outcome(text="text", value="text")),
        ("x" * 600_000, Outcome(text="x" * 600_000)),
        (None, Outcome()),
        ({"a": [1, 2.5]}, Outcome(value={"a": [1, 2.5]})),
        (Point(1), Outcome(value={"x": 1, "y": 0})),
        (Options(Path("a")), Outcome(value={"path": "a", "words": 50, "prompt": None})),
        ({3, 4}, Outcome(value=[3, 4])),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_what_a_function_returns_is_the_value(value: Any, outcome: Outcome) -> None:
    async def function() -> Any:
        return value

    assert await run(function) == outcome


async def test_an_answer_of_claudes_is_an_outcome_of_claudes() -> None:
    def answer(content: list[dict[str, Any]]) -> ClaudeAnswer:
        return ClaudeAnswer(
            text="hi",
            content=content,
            stop_reason="end_turn",
            usage=Usage(),
            cost_usd=0.0,
            model="m",
            request_id=None,
        )

    async def plain() -> ClaudeAnswer:
        return answer([{"type": "text", "text": "hi"}])

    async def rich() -> ClaudeAnswer:
        return answer([{"type": "tool_use"}, {"type": "text", "text": "hi"}])

    assert await run(plain) == Outcome(text="hi", stop_reason="end_turn")
    assert (await run(rich)).content == [{"type": "tool_use"}, {"type": "text", "text": "hi"}]


async def test_a_promise_that_is_not_kept_is_told() -> None:
    async def wrong() -> Point:
        return {"x": "one"}  # type: ignore[return-value]

    async def right() -> Point:
        return {"x": 1}  # type: ignore[return-value]

    async def foreign() -> Any:
        return [Foreign()]

    assert (await run(right)).value == {"x": 1}
    with pytest.raises(InvalidTask, match=r"did not return .*Expected `int`.*\$\.x") as caught:
        await run(wrong)
    assert caught.value.reason == "bad_outcome"
    with pytest.raises(InvalidTask, match="a Foreign cannot be written as JSON") as caught:
        await run(foreign)
    assert caught.value.reason == "result_not_json"


class Colour(enum.Enum):
    RED = "red"


class Measured(msgspec.Struct):
    value: float


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (float("nan"), "its result is NaN, which JSON cannot hold"),
        (float("-inf"), "its result is infinite"),
        ({"a": [1.0, {"b": float("inf")}]}, r"its result.a\[1\].b is infinite"),
        (Measured(float("nan")), "its result.value is NaN"),
        ({1: "a", "1": "b"}, "its result has the keys 1 and '1', which are one key in JSON"),
        ({Colour.RED: 1, "red": 2}, "which are one key in JSON"),
        (b"text", "its result is bytes, not text; decode it"),
        ([bytearray(b"text")], r"its result\[0\] is bytearray, not text"),
    ],
    ids=repr,
)
async def test_what_json_would_change_is_no_result(value: Any, sentence: str) -> None:
    async def anything() -> Any:
        return value

    with pytest.raises(InvalidTask, match=sentence) as caught:
        await run(anything)
    assert caught.value.reason == "result_not_json"


async def test_bytes_that_are_promised_are_base64() -> None:
    async def binary() -> list[bytes]:
        return [b"\xff"]

    async def text() -> str:
        return b"text"  # type: ignore[return-value]

    assert (await run(binary)).value == ["/w=="]
    with pytest.raises(InvalidTask, match="is bytes, not text"):
        await run(text)


async def test_how_a_function_asks_for_another_attempt_or_for_none() -> None:
    wish: Exception = Retry("later", delay=30)

    def function() -> None:
        raise wish

    with pytest.raises(AttemptFailed, match="later") as caught:
        await run(function)
    assert (caught.value.signal.exception, caught.value.signal.retry_after) == ("asked", 30)
    wish = Retry()
    with pytest.raises(AttemptFailed) as caught:
        await run(function)
    assert (caught.value.signal.exception, caught.value.signal.retry_after) == ("handler", None)
    wish = Fail("never", reason="no_such_file")
    with pytest.raises(InvalidTask, match="never") as failed:
        await run(function)
    assert failed.value.reason == "no_such_file"
    with pytest.raises(ValueError, match="delay is a number"):
        Retry(delay=-1)
    for reason in ("", "two words", 3):
        with pytest.raises(ValueError, match="reason is a short code"):
            Fail("never", reason=reason)  # type: ignore[arg-type]


async def test_a_decorated_function_is_what_it_was() -> None:
    def passing(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            return function(*arguments, **named)

        return wrapper

    @passing
    async def on_the_loop(ctx: agentflow.Context, number: int) -> int:
        await asyncio.sleep(0)
        return number + ctx.attempt

    assert (await run(on_the_loop, params={"number": 1})).value == 2


# MODULE:APP.


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "there is no module nowhere in this directory or installed"),
        ("nowhere.at.all:app", "there is no module nowhere"),
        ("good:other", "module good has no other; its apps are app"),
        ("good:app.more", "module good has no app.more"),
        ("bare", "module bare has no app; it has no agentflow.App"),
        ("bare:text", "bare:text is a str, not an agentflow.App"),
        ("broken", r"module broken cannot be imported: ZeroDivisionError: .* \(AGENTFLOW_DEBUG"),
        ("unfinished", "module unfinished cannot be imported: SyntaxError"),
        ("needy", "module needy cannot be imported: ModuleNotFoundError: .*nowhere_else"),
        ("leaving", "module leaving cannot be imported: SystemExit: 3"),
        ("./good.py", "'./good.py' is not of the form module:app, for example good:app"),
        ("sub/good.py:app", "for example sub.good:app"),
        (":app", "for example module:app"),
    ],
)
def test_a_target_that_is_no_app_is_told(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "good": "import agentflow; app = agentflow.App()",
        "bare": "text = 'a'",
        "broken": "1 / 0",
        "unfinished": "def (",
        "needy": "import nowhere_else",
        "leaving": "raise SystemExit(3)",
    }
    for module, text in files.items():
        (tmp_path / f"{module}.py").write_text(text)
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(UsageError, match=sentence):
        apps.load(name)
    assert apps.load("good").kinds == []
    for module in files:
        sys.modules.pop(module, None)


def test_an_app_that_asks_nobody_imports_no_sdk() -> None:
    program = (
        "import sys, agentflow; app = agentflow.App(); "
        "app.task(kind='k')(lambda: 1); app.handlers(); "
        "print([name for name in ('anthropic', 'nats') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
