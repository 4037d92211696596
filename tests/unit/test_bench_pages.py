"""Pages whose measured part a program writes."""

from __future__ import annotations

import pytest

from bench.instruments import pages


def test_only_what_stands_between_the_marks_is_written_anew() -> None:
    mark = pages.begin("do it")
    after = pages.filled(f"words\n{mark}\nold\n{pages.END}\nmore words\n", "do it", "new")
    assert after == f"words\n{mark}\n\nnew\n\n{pages.END}\nmore words\n"


@pytest.mark.parametrize(
    "page",
    ["no marks", f"{pages.begin('do it')} and no end", f"{pages.begin('other')} {pages.END}"],
)
def test_a_page_without_the_marks_is_not_guessed_at(page: str) -> None:
    with pytest.raises(ValueError, match="lacks"):
        pages.filled(page, "do it", "new")
