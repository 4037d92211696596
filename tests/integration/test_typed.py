"""Classes of one's own: as schemas, as arguments, as results, and as what a function submits."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

import agentflow
from agentflow.client import Client
from agentflow.errors import InvalidTask, NotConnected, TaskError, TaskFailed
from agentflow.handlers import registry
from agentflow.simulator import Simulator
from tests.integration.conftest import StartWorker
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.timeout(60)
ROOT = Path(__file__).parents[2]


class Item(msgspec.Struct):
    name: str
    count: int = 1


class Line(pydantic.BaseModel):
    name: str
    count: int = 1


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    customer: str = pydantic.Field(min_length=2)
    day: date
    items: list[Line] = []


@dataclass
class Receipt:
    order: Order
    total: float


class Rating(pydantic.BaseModel):
    stars: int = pydantic.Field(ge=2, le=5)


class Even(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def _even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("is odd")
        return number


@pytest.fixture(name="simulator")
async def _simulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Simulator]:
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "AGENTFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with Simulator() as simulator:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
        yield simulator
    gc.unfreeze()


def make_app() -> tuple[agentflow.App, dict[str, Any]]:
    app = agentflow.App()

    @app.task(queue="orders")
    async def charge(order: Order) -> Receipt:
        return Receipt(order, 2.5 * sum(item.count for item in order.items))

    @app.task
    def total(orders: list[Order], rate: float = 1.0) -> dict[str, Order]:
        return {order.customer: order for order in orders}

    @app.task
    async def rate(ctx: agentflow.Context, prompt: str) -> agentflow.ClaudeAnswer:
        return await ctx.claude(prompt, schema=Rating)

    @app.task
    def rate_twice(ctx: agentflow.SyncContext) -> Rating:
        first = ctx.claude("one", schema=Rating).value
        assert isinstance(first, Rating)
        plain = ctx.claude("two", schema=Rating.model_json_schema()).value
        assert plain == {"stars": first.stars}
        return first

    @app.task
    async def even(ctx: agentflow.Context) -> Any:
        return (await ctx.claude("an even number", schema=Even)).value

    @app.task
    async def wrong() -> Order:
        return {"customer": "A", "day": "2026-01-02"}  # type: ignore[return-value]

    @app.task
    async def loose() -> None:
        return None

    functions: list[Any] = [charge, total, rate, rate_twice, even, wrong, loose]
    return app, {one.__name__: one for one in functions}


@asynccontextmanager
async def working(
    start: StartWorker, server: NatsServer
) -> AsyncIterator[tuple[Client, dict[str, Any]]]:
    app, functions = make_app()
    async with app.open() as handlers, agentflow.connect(server.url) as client:
        await start(handlers=handlers, queues=["default", "orders"])
        yield client, functions


ORDER = Order(customer="Ada", day=date(2026, 1, 2), items=[Line(name="pen", count=2)])


class TestClasses:
    async def test_models_and_structs_go_there_and_back(
        self, start_worker: StartWorker, nats_server: NatsServer, simulator: Simulator
    ) -> None:
        async with working(start_worker, nats_server) as (client, own):
            task = await own["charge"].submit(ORDER)
            assert await task.result(20) == Receipt(ORDER, 5.0)
            result = await client.task(task.id).result(20)
            assert result.queue == "orders"
            assert result.value["order"]["day"] == "2026-01-02"
            named = own["charge"].options(queue="default", labels={"a": "b"}, id="mine")
            assert (await named.submit(order=ORDER)).id == "mine"
            many = await own["total"].submit([ORDER], rate=2.0)
            assert await many.result(20) == {"Ada": ORDER}
            # And so as any client sends them.
            params = {"orders": [ORDER]}
            again = await client.submit(kind="total", params=params)
            assert await again.result(20, type=dict[str, Order]) == {"Ada": ORDER}
            assert await (await own["loose"].submit()).result(20) is None

    async def test_what_does_not_fit_is_told_before_anything_is_sent(
        self, start_worker: StartWorker, nats_server: NatsServer, simulator: Simulator
    ) -> None:
        async with working(start_worker, nats_server) as (client, own):
            with pytest.raises(InvalidTask, match=r"kind total: .*rate") as caught:
                await own["total"].submit([ORDER], rate="high")
            assert "\n" not in str(caught.value)
            with pytest.raises(TypeError, match="orders"):
                await own["total"].submit(rate=1.0)
            for params, why in [
                ({"customer": "A", "day": "2026-01-02"}, "customer: String should have at least 2"),
                ({"customer": "Ada"}, "needs params.day"),
                ({"customer": "Ada", "day": "2026-01-02", "dya": 1}, "takes no params.dya"),
            ]:
                task = await client.submit(kind="charge", params=params)
                with pytest.raises(TaskFailed, match=why) as refused:
                    await task.result(20)
                assert refused.value.reason == "invalid"
            broken = await own["wrong"].submit()
            with pytest.raises(TaskFailed, match="did not return what it promised"):
                await broken.result(20)

    async def test_without_an_open_client_nothing_is_submitted(
        self, start_worker: StartWorker, nats_server: NatsServer, simulator: Simulator
    ) -> None:
        async with working(start_worker, nats_server) as (client, own):
            await client.close()
            with pytest.raises(NotConnected, match=r"loose\.submit needs an open client"):
                await own["loose"].submit()

    async def test_a_function_asks_for_a_class(
        self, start_worker: StartWorker, nats_server: NatsServer, simulator: Simulator
    ) -> None:
        simulator.add_script([{"text": '{"stars": 9}'}], match="how good")
        async with working(start_worker, nats_server) as (client, own):
            task = await own["rate"].submit("how good")
            answer = await task.result(30)
            assert answer.value == {"stars": 2}
            assert answer.text == '{"stars":2}'
            result = await client.task(task.id).result(20)
            assert result.repair is not None
            assert result.repair.turns == 1
            assert result.value_as(Rating) == Rating(stars=2)
            assert await (await own["rate_twice"].submit()).result(30) == Rating(stars=2)

    async def test_a_class_may_want_more_than_its_schema_says(
        self, start_worker: StartWorker, nats_server: NatsServer, simulator: Simulator
    ) -> None:
        async with working(start_worker, nats_server) as (_, own):
            with pytest.raises(TaskFailed, match="is odd") as caught:
                await (await own["even"].submit()).result(30)
            assert caught.value.reason == "schema"


class TestResults:
    async def test_the_type_of_an_answer(
        self, start_worker: StartWorker, nats_server: NatsServer, simulator: Simulator
    ) -> None:
        form = {"format": {"type": "json_schema", "schema": msgspec.json.schema(Item)}}
        async with (
            registry.open_handlers(["claude"]) as handlers,
            agentflow.connect(nats_server.url) as client,
        ):
            await start_worker(handlers=handlers)
            # In the API's own words the answer is in the text.
            task = await client.submit("x", params={"output_config": form})
            assert await task.result(30, type=Item) == Item("SIMULATED", 1)
            # By a schema, or the class itself, it is the value.
            task = await client.submit("y", schema=Rating)
            assert await task.result(30, type=Rating) == Rating(stars=2)
            plain = await client.submit("z")
            assert (await plain.result(30, type=str)).startswith("[SIMULATED]")
            with pytest.raises(TaskError, match="is no Item"):
                await plain.result(type=Item)
            cut = await client.submit("y2", schema=Rating, max_tokens=1)
            with pytest.raises(TaskError, match="ended by max_tokens"):
                await cut.result(30, type=Rating)
            items = [f"how good is {n}" for n in range(3)]
            rated = [one async for one in client.map(items, schema=Rating, type=Rating)]
            assert rated == [Rating(stars=2)] * 3
            simulator.set_mode({"breaking": 1})
            with pytest.raises(TaskFailed, match="breaks its schema"):
                await anext(client.map(["w"], schema=Rating, repair=0, type=Rating))


CHECKED = """
import agentflow
from pathlib import Path

app = agentflow.App()


@app.task(kind="summarise", queue="texts")
async def summarise(ctx: agentflow.Context, path: Path, words: int = 50) -> list[str]:
    return []


@app.task
def length(text: str) -> int:
    return len(text)


async def use(client: agentflow.Client) -> None:
    task = await summarise.submit(path=Path("a"), words=3)
    lines: list[str] = await task.result(timeout=60)
    number: int = await (await length.options(priority="high").submit("x")).result()
    direct: int = length("x")
    print(lines, number, direct)
    await client.submit("x", priority="low", schema={"type": "object"})
    wrong_result: int = await task.result()  # error
    print(wrong_result)
    await summarise.submit(pth=Path("a"))  # error
    await summarise.submit(path=3)  # error
    await summarise.options(priority="urgent").submit(path=Path("a"))  # error
    await client.submit("x", priority="hihg")  # error
    client.map(["x"], timout=3)  # error
    await client.submit("x", schema=3)  # error
"""
WRONG = [number for number, line in enumerate(CHECKED.splitlines(), 1) if "# error" in line]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "checker",
    [
        ["mypy", "--strict", "--no-error-summary", "--hide-error-context"],
        pytest.param(["pyright", "--pythonpath", sys.executable], marks=pytest.mark.tools("node")),
    ],
    ids=["mypy", "pyright"],
)
def test_type_checkers_hold_calls_to_the_types(checker: list[str], tmp_path: Path) -> None:
    file = tmp_path / "typed_calls.py"
    file.write_text(CHECKED)
    done = subprocess.run(
        [sys.executable, "-m", *checker, str(file)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
    )
    told = {
        int(line.split(f"{file.name}:")[1].split(":")[0])
        for line in done.stdout.splitlines()
        if f"{file.name}:" in line and "error" in line
    }
    assert sorted(told) == WRONG, done.stdout + done.stderr
