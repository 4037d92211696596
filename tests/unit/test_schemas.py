"""Schemas of anybody's: what does not fit is named, nothing is fetched, nothing takes long."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agentflow.errors import InvalidTask
from agentflow.rules.routes.models import answers_structured
from agentflow.rules.schemas import checked

HIDDEN = {"$ref": "#/$defs/d0"}
TREE = {
    "type": "object",
    "properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]}},
}


def doubling(levels: int) -> dict[str, Any]:
    """Each level refers twice to the next: 2 to the power of levels when unfolded."""
    schemas: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
        for n in range(levels)
    }
    return {"$defs": {**schemas, f"d{levels}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


def nested(depth: int, leaf: Any, name: str = "a") -> Any:
    for _ in range(depth):
        leaf = {name: leaf}
    return leaf


def test_what_does_not_fit_is_named_with_its_place() -> None:
    schema = checked({"type": "object", "properties": {"list": {"items": {"type": "integer"}}}})
    assert schema.fault({"list": [1, 2]}) is None
    assert schema.fault({"list": [1, "x"]}) == '"x" is not of type "integer" (at $.list[1])'


def test_a_fault_that_quotes_a_long_text_is_cut() -> None:
    fault = checked({"type": "integer"}).fault("x" * 100_000)
    assert fault is not None
    assert len(fault) < 600


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "objct"}, "objct"),
        ({"properties": []}, "not of type"),
        ({"$ref": "https://example.com/a.json"}, "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
        ({"$schema": "https://example.com/own"}, "meta-schema"),
        ({"type": "string", "pattern": "(?=a)b"}, "no look-around"),
        ({"type": "string", "pattern": "((a{1000}){1000}){1000}"}, "regex"),
        (doubling(30), "unfold"),
        ({**doubling(30), "$ref": "#/properties/enum", "properties": {"enum": HIDDEN}}, "unfold"),
        (nested(300, {}, "not"), "nested deeper"),
        ({"description": "x" * 300_000}, "262,144"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_in_one_sentence(
    schema: dict[str, Any], why: str
) -> None:
    began = time.process_time()
    with pytest.raises(InvalidTask, match=why) as caught:
        checked(schema)
    assert "\n" not in str(caught.value)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "pattern": "^(a+)+$"}, "a" * 50_000 + "b"),
        (TREE, nested(100, {})),
        (TREE, nested(100, 1)),
        (TREE, nested(5_000, 1)),
        ({"uniqueItems": True}, [{"n": n} for n in range(20_000)]),
    ],
)
def test_hostile_schemas_and_answers_are_judged_in_no_time(
    schema: dict[str, Any], value: Any
) -> None:
    began = time.process_time()
    checked(schema).fault(value)
    assert time.process_time() - began < 2, "a loop with leases to renew waits for it"


def test_a_schema_that_refers_to_itself_still_names_the_place_in_a_shallow_answer() -> None:
    assert "$.a" in (checked(TREE).fault({"a": 1}) or "")
    assert checked(TREE).fault(nested(40, 1)) == "it does not fit the schema"
    assert checked(TREE).recursive
    assert not checked({"type": "integer"}).recursive


def test_names_of_properties_may_be_keywords() -> None:
    schema = checked({"properties": {"enum": {"type": "string"}, "$ref": {"type": "string"}}})
    assert schema.fault({"enum": "a", "$ref": "b"}) is None


@pytest.mark.parametrize(
    ("model", "has"),
    [
        ("claude-sonnet-5-5", True),
        ("claude-haiku-4-5-20251001", True),
        ("claude-opus-4-1-20250805", True),
        ("claude-something-new", True),
        ("claude-sonnet-4-20250514", False),
        ("claude-opus-4-0", False),
        ("claude-3-7-sonnet-20250219", False),
        ("claude-2.1", False),
    ],
)
def test_older_models_are_known_to_lack_structured_answers(model: str, has: bool) -> None:
    assert answers_structured(model) is has
