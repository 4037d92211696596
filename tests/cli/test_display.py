"""Nothing that a terminal obeys reaches a terminal."""

import json
import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.views.display import columns, fit, one_line, safe, safe_json

HOSTILE = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b]0;a new title\x07text", "text"),
    ("\x1b]52;c;ZWNobyBwd25lZA==\x1b\\text", "text"),
    ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x9b2Jcleared", "cleared"),
    ("\x9d0;title\x9ctext", "text"),
    ("\x1bPq#0;2;0\x1b\\sixel", "sixel"),
    ("\x1b_Gf=100;AAAA\x1b\\image", "image"),
    ("\x1bcreset", "reset"),
    ("\x1b(0line drawing", "line drawing"),
    ("an open \x1b]0;title", "an open 0;title"),
    ("half \x1b", "half "),
    ("bell\x07 back\x08space null\x00 del\x7f", "bell backspace null del"),
    ("shown\rhidden", "shown\nhidden"),
    ("windows\r\nline", "windows\nline"),
    ("next\x85line\u2028sep\u2029", "next\nline\nsep\n"),
    ("user\u202egnp.exe", "usergnp.exe"),
    ("\u2066isolate\u2069 \u200fmark", "isolate mark"),
    ("tag\U000e0041\U000e007f", "tag"),
    ("\ufeffbom", "bom"),
    ("half a \ud800 pair", "half a \ufffd pair"),
    ("tab\tand\nline stay", "tab\tand\nline stay"),
    ("a family \U0001f468\u200d\U0001f469 stays", "a family \U0001f468\u200d\U0001f469 stays"),
    ("\x1b[\x1b[31mtwice", "twice"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_hostile_text(text: str, shown: str) -> None:
    assert safe(text) == shown


@given(st.text(alphabet=st.characters(), max_size=200) | st.text("\x1b[]P\\\x07\x9b\x9c\x9dm;0"))
def test_no_control_is_left(text: str) -> None:
    shown = safe(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert safe(shown) == shown
    assert "\n" not in one_line(text)
    shown.encode()


@given(st.text(max_size=100), st.integers(1, 40))
def test_a_line_fits(text: str, width: int) -> None:
    assert columns(one_line(text, width)) <= width


def test_wide_characters_take_two_columns() -> None:
    assert columns("世界") == 4
    assert columns("e\u0301") == 1
    assert fit("世界世界", 5) == "世界…"
    assert fit("abc", 3) == "abc"
    assert fit("abcd", 3) == "ab…"


@given(st.text(max_size=100))
def test_json_stays_what_it_is(text: str) -> None:
    bare = json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "ignore").decode()
    shown = safe_json(bare)
    assert json.loads(shown) == json.loads(bare)
    assert not re.search("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]", shown)


@pytest.mark.parametrize(
    "piece", ["\x1b]", "\x9d", "\x1b[", "\x1b]0;", "\x9b1;", "\x1bP\x07", " \u0301"]
)
def test_a_long_hostile_text_takes_no_longer_than_it_must(piece: str) -> None:
    """Twice as long, about twice the time; quadratic would be four times."""

    def seconds(count: int) -> float:
        # The processor's time: others that run beside cost none of it.
        began = time.process_time()
        safe(piece * count)
        return time.process_time() - began

    seconds(1000)
    short = min(seconds(50_000) for _ in range(5))
    long = min(seconds(400_000) for _ in range(5))
    assert long < 8 * 4 * short


def test_what_is_stripped_is_what_unicode_calls_control() -> None:
    for code in [*range(0x20), *range(0x7F, 0xA0)]:
        if chr(code) not in "\t\n\r\x85":
            assert unicodedata.category(chr(code)) == "Cc"
            assert safe(f"a{chr(code)} b").replace(" ", "") in ("ab", "a b", "a")
