"""`agentflow run --schema`: answers that are rows, and what becomes of those that are none."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import Home

RATED: dict[str, Any] = {
    "type": "object",
    "properties": {"stars": {"type": "integer", "minimum": 2}, "word": {"enum": ["good", "bad"]}},
    "required": ["stars", "word"],
}
OPTIONS = ("--prompt", "Rate: {text}", "--simulate")
CLASSES = """
from dataclasses import dataclass
import msgspec, pydantic

class Struct(msgspec.Struct):
    stars: int

class Model(pydantic.BaseModel):
    stars: int = pydantic.Field(ge=2)

@dataclass
class Data:
    stars: int

number = 3
"""


@pytest.fixture(scope="module", name="stack")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    import asyncio

    home = Home(tmp_path_factory.mktemp("stack"))
    program = asyncio.run(home.up("--workers", "1"))
    yield home
    program.signal(signal.SIGTERM)
    asyncio.run(program.done())
    home.end()


@pytest.fixture(name="home")
async def _home(stack: Home, tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(tmp_path)
    home.store = stack.store
    home.environment["AGENTFLOW_STORE"] = str(stack.store)
    home.simulator("reset", {})
    rows = "".join(f"{tmp_path.name} {n},{n}\n" for n in range(20))
    (tmp_path / "rows.csv").write_text(f"text,schema\n{rows}")
    (tmp_path / "rated.json").write_text(json.dumps(RATED))
    (tmp_path / "classes_of_mine.py").write_text(CLASSES)
    yield home
    assert home.end() == []


async def test_the_value_of_every_row_is_the_parsed_answer(home: Home) -> None:
    done = await home.command("run", "rows.csv", *OPTIONS, "--schema", "rated.json", "--json")

    assert done.code == 0, done.err
    lines = home.results("rows.results.jsonl")
    assert [line["value"] for line in lines] == [{"stars": 2, "word": "good"}] * 20
    assert lines[3]["input"] == {"schema": "3"}, "a column may be called as a field is"
    figures = json.loads(done.out)
    assert (figures["repaired"], figures["repair"]["turns"]) == (0, 0)


async def test_breaking_answers_are_mended_and_what_that_took_is_told(home: Home) -> None:
    home.simulator("mode", {"breaking": 0.3, "seed": 4})
    job = ("run", "rows.csv", *OPTIONS, "--schema", "rated.json", "--repair", "9")
    done = await home.command(*job)

    assert done.code == 0, done.err
    assert "asked again for the schema" in done.out
    lines = home.results("rows.results.jsonl")
    assert [line["line"] for line in lines] == list(range(2, 22))
    assert all(line["value"] == {"stars": 2, "word": "good"} for line in lines)
    mended = [line["repair"] for line in lines if "repair" in line]
    assert mended
    asked = home.simulator("stats")
    assert asked["requests"] == 20 + sum(repair["turns"] for repair in mended)


async def test_what_breaks_its_schema_in_spite_of_all_fails_and_keeps_its_text(home: Home) -> None:
    home.simulator("mode", {"breaking": 1})
    job = ("run", "rows.csv", *OPTIONS, "--schema", "rated.json", "--repair", "1", "--limit", "2")
    done = await home.command(*job)

    assert done.code == 1
    assert "schema" in done.out
    for line in home.results("rows.results.jsonl"):
        assert (line["state"], line["reason"]) == ("failed", "schema")
        assert line["text"] == "[SIMULATED] This breaks the schema."
        assert "partial" not in line
        assert line["attempts"] == 1
        assert line["cost_usd"] > 0
    home.simulator("mode", {})
    again = await home.command(*job, "--retry-failed")
    assert again.code == 0, again.err
    assert [line["state"] for line in home.results("rows.results.jsonl")] == ["succeeded"] * 2


@pytest.mark.parametrize("name", ["Struct", "Model", "Data"])
async def test_a_class_is_a_schema(home: Home, name: str) -> None:
    job = ("run", "rows.csv", *OPTIONS, "--schema", f"classes_of_mine:{name}", "--limit", "1")
    done = await home.command(*job)

    assert done.code == 0, done.err
    (line,) = home.results("rows.results.jsonl")
    assert line["value"]["stars"] == (2 if name == "Model" else 1)


@pytest.mark.parametrize(
    ("schema", "text", "says"),
    [
        ("none.json", None, "cannot read none.json: No such file"),
        ("bad.json", "{", "is no JSON"),
        ("bad.json", "[]", "holds no JSON object"),
        ("bad.json", '{"type": "objct"}', "objct"),
        ("bad.json", '{"$ref": "http://127.0.0.1:1/a"}', "nothing is fetched"),
        ("bad.json", '{"pattern": "(?<=a)b"}', "no look-around"),
        ("classes_of_mine:Nobody", None, "has no Nobody"),
        ("classes_of_mine:number", None, "has no JSON Schema"),
        ("no_such_module:Class", None, "no module no_such_module"),
    ],
)
async def test_a_schema_that_cannot_be_used_ends_the_start(
    home: Home, schema: str, text: str | None, says: str
) -> None:
    if text is not None:
        (home.folder / schema).write_text(text)
    done = await home.command("run", "rows.csv", *OPTIONS, "--schema", schema)

    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1
    assert home.simulator("stats")["requests"] == 0
    assert not (home.folder / "rows.results.jsonl").exists()


async def test_lines_may_have_schemas_of_their_own(home: Home) -> None:
    own = {"type": "object", "properties": {"own": {"const": 7}}, "required": ["own"]}
    lines = [
        {"prompt": f"a {home.folder.name}"},
        {"prompt": f"b {home.folder.name}", "schema": own},
        {"prompt": f"c {home.folder.name}", "kind": "echo"},
    ]
    (home.folder / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = await home.command("run", "own.jsonl", "--simulate", "--schema", "rated.json")

    assert done.code == 0, done.err
    values = [line.get("value") for line in home.results("own.results.jsonl")]
    assert values == [{"stars": 2, "word": "good"}, {"own": 7}, None]


async def test_bad_schemas_of_lines_are_told_with_the_others(home: Home) -> None:
    (home.folder / "own.jsonl").write_text(
        '{"prompt": "a", "schema": {"type": "objct"}}\n'
        '{"prompt": "a", "schema": {}, "kind": "echo"}\n'
        '{"prompt": "a", "repair": 1}\n'
        '{"prompt": "a", "schema": {}, "params": '
        '{"output_config": {"format": {"type": "json_schema", "schema": {}}}}}\n'
    )
    done = await home.command("run", "own.jsonl", "--simulate")

    assert done.code == 2
    for part in ("line 1", "objct", "line 2", "kind echo", "line 3", "line 4", "both schema"):
        assert part in done.err
