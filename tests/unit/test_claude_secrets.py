"""No text that leaves the handler holds a key, however it is spelled or cut."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from agentflow.handlers.claude.secrets import ID, Secrets

KEY = "gw.XYZ-0123456789/abc+def$=='\"\\end"
HIDDEN = Secrets([KEY, "short", "sk-ant-api03-" + "aB3_x-9" * 13])

SPELLED: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "Python's bytes": lambda key: repr(key.encode()),
    "Python's text": repr,
    "JSON": json.dumps,
    "a URL": lambda key: quote(key, safe=""),
    "a form": quote_plus,
    "Base64": lambda key: base64.b64encode(key.encode()).decode(),
    "Base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "a user's password": lambda key: base64.b64encode(f"x:{key}".encode()).decode(),
    "hexadecimal": lambda key: key.encode().hex(),
    "its beginning": lambda key: key[:20] + "...",
    "a header": lambda key: f"Authorization: Bearer {key}",
    "with a line end": lambda key: repr(f"Bearer {key}\r"),
}


@pytest.mark.parametrize("how", SPELLED)
def test_a_key_in_any_spelling(how: str) -> None:
    said = SPELLED[how](KEY)
    hidden = HIDDEN.hidden(f"cannot send {said}, sorry")
    assert "[key]" in hidden
    assert hidden.startswith("cannot send ")
    for piece in ("XYZ", "0123456789", "abc", "WFla", "58595a"):
        assert piece not in hidden


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("an unknown sk-ant-api03-Abc_123-x stands here", "an unknown [key] stands here"),
        ("Bearer abcdef1234567890", "Bearer [key]"),
        ("http://me:secret@proxy:8080/ refused", "http://[credentials]@proxy:8080/ refused"),
        ("a short text about the bearer of bad news", "a short text about the bearer of bad news"),
        ("a half \ud83d of a pair", "a half � of a pair"),
    ],
)
def test_what_looks_like_one(text: str, hidden: str) -> None:
    assert HIDDEN.hidden(text) == hidden
    assert Secrets().hidden(text) == hidden


def test_texts_are_cut_and_ids_are_one_short_line() -> None:
    assert HIDDEN.hidden("x" * 100_000, 50) == "x" * 50
    assert HIDDEN.name(f"req_{KEY}") == "req_[key]"
    assert HIDDEN.name("req_\x1b[31m\r\n1") == "req_[31m1"
    assert HIDDEN.name("r" * 10_000) == "r" * ID
    assert (HIDDEN.name(None), HIDDEN.name("\n")) == (None, None)


@pytest.mark.parametrize("text", ["x" * 10**7, KEY[:11] * 10**5, "bearer " * 10**5, "://" * 10**5])
def test_a_page_of_megabytes_does_not_hold_the_loop_up(text: str) -> None:
    began = time.process_time()
    HIDDEN.hidden(text)
    assert time.process_time() - began < 0.2
