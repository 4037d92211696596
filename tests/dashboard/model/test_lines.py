"""Lines: whatever a text holds, it takes the columns that it is given."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from agentflow.dashboard.render.lines import (
    Hit,
    Line,
    cell,
    clip,
    columns,
    columns_of,
    fit,
    fitted,
    in_ascii,
    line,
    rule,
    size_of,
    tame,
    wrap,
)
from tests.dashboard.support.hostile import HOSTILE

texts = st.text(max_size=60) | st.sampled_from(HOSTILE)


def harmless(text: str) -> None:
    """No control, no format character, and the terminal's width is ours."""
    for char in text:
        assert unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"), repr(text)
    assert cell_len(text) == columns(text)


@given(texts, st.integers(1, 80), st.booleans())
@settings(max_examples=400, deadline=None)
def test_a_cell_has_its_width(text: str, width: int, right: bool) -> None:
    found = cell(text, width, right)
    harmless(found)
    assert columns(found) == width


@given(st.lists(st.tuples(texts, st.just("text")), max_size=6), st.integers(1, 120))
@settings(max_examples=300, deadline=None)
def test_a_clipped_line_has_its_width(runs: list[tuple[str, str]], width: int) -> None:
    found = clip(Line(tuple(runs)), width)
    harmless(found.text)
    assert size_of(found) == width == cell_len(found.text)


@given(texts, texts, st.integers(4, 120))
@settings(max_examples=300, deadline=None)
def test_a_rule_has_its_width(title: str, right: str, width: int) -> None:
    found = rule(title, width, right)
    harmless(found.text)
    assert size_of(found) == width


@given(texts, st.integers(2, 60))
@settings(max_examples=200, deadline=None)
def test_wrapped_lines_fit(text: str, width: int) -> None:
    for found in wrap(text, width):
        harmless(found)
        assert columns(found) <= width


@given(texts)
@settings(max_examples=300, deadline=None)
def test_taming_twice_changes_nothing_more(text: str) -> None:
    assert tame(tame(text)) == tame(text)


def test_every_character_alone_takes_the_columns_that_the_terminal_gives_it() -> None:
    wrong = [
        hex(code)
        for code in (*range(0x20, 0x3400), *range(0xA000, 0xAC00), *range(0xF900, 0x20000))
        if not 0xD800 <= code < 0xE000 and cell_len(tame(chr(code))) != columns(tame(chr(code)))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "tamed"),
    [
        ("plain [bold]x[/]", "plain [bold]x[/]"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\tb\nc", "a b c"),
        ("\u202eevil", "evil"),
        ("👨‍👩‍👧", "👨👩👧"),
        ("🇩🇪", "DE"),
        ("👍🏽", "👍"),
        ("e\u0301", "é"),
        ("x" + "\u0336" * 30, "x\u0336\u0336"),
        ("\u0301x", "x"),
        ("漢字", "漢字"),
    ],
)
def test_what_terminals_disagree_about_is_taken_out(text: str, tamed: str) -> None:
    assert tame(text) == tamed


def test_only_what_is_cut_has_an_ellipsis() -> None:
    assert fit("abc   ", 3) == "abc"
    assert fit("abcd", 3) == "ab…"
    assert fit("漢字漢字", 5) == "漢字…"
    assert fit("abc", 0) == ""


def test_hits_move_with_their_line_and_end_with_it() -> None:
    part = line("abc", hits=[Hit(0, 3, "x")])
    both = columns_of([part, part], 8)
    assert [(hit.begin, hit.end) for hit in both.hits] == [(0, 3), (5, 8)]
    assert clip(both, 6).hits[-1].end == 6
    assert len(clip(both, 4).hits) == 1


def test_the_most_wanted_parts_are_shown_first() -> None:
    found = fitted([line("first"), line("a very long second one"), line("third")], 20)
    assert found.text.rstrip() == "first   third"


@given(texts)
@settings(max_examples=200, deadline=None)
def test_in_ascii_a_line_keeps_its_columns(text: str) -> None:
    found = in_ascii(clip(line(text, "─▌●✓▂█⣿"), 50))
    assert found.text.isascii()
    assert len(found.text) == 50
