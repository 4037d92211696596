"""What a policy strikes out of records, and what stays as it is."""

from __future__ import annotations

import msgspec
import pytest

from agentflow.errors import UsageError
from agentflow.protocol.record import Failure, encode
from agentflow.rules.redaction import STRUCK, parse
from tests.unit.test_job_ledger import record

POLICY = """
# addresses, and our keys
[a-z.]+@[a-z.]+
sk-[a-z]+
"""


def test_all_that_people_and_models_have_written_is_met() -> None:
    made = msgspec.structs.replace(
        record("a"),
        text="write to me@example.org",
        value={"me@example.org": ["sk-abc", 7, None, {"x": ("you@example.org", True)}]},
        content=msgspec.Raw(b'[{"type": "text", "text": "sk-abc"}]'),
        note="asks me@example.org",
        error=Failure(type="x", message="of sk-abc", traceback="sk-abc"),
    )
    struck = parse(POLICY, "policy").record(made)
    assert struck.text == f"write to {STRUCK}"
    assert struck.value == {STRUCK: [STRUCK, 7, None, {"x": [STRUCK, True]}]}
    assert struck.content == [{"type": "text", "text": STRUCK}]
    assert b"@" not in encode(struck)
    assert b"sk-abc" not in encode(struck)
    assert struck.id == "a"
    assert struck.usage == made.usage


def test_what_has_nothing_of_it_is_the_same() -> None:
    made = msgspec.structs.replace(record("a"), text="a river", value=[1.5, "two"])
    assert parse(POLICY, "policy").record(made) == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(", "p, line 1: no regular expression"),
        ("ok\nx*", "p, line 2: it is too long, or finds what is empty"),
        ("x" * 1001, "p, line 1: it is too long"),
        ("# nothing\n", "p has no pattern"),
    ],
)
def test_a_policy_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(text, "p")
