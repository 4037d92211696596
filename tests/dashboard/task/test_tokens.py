"""Text as it is generated: in any order, wrapped as if it were whole."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.dashboard.reader.tokens import GAP, MOST, TEXTS, Texts, TokenText
from agentflow.dashboard.render.lines import wrap

PIECES = st.lists(
    st.one_of(
        st.sampled_from(["\n", " ", "ab ", "x" * 30, "日本語 ", "word word\n\n", "y" * 3000]),
        st.text("abc \n\té", max_size=40),
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(PIECES, st.integers(1, 50))
def test_wrapping_on_gives_the_lines_of_the_whole(pieces: list[str], width: int) -> None:
    text, offset = TokenText(), 0
    for piece in pieces:
        text.take(1, offset, piece)
        offset += len(piece.encode())
        assert text.lines(width) == wrap(text.text, width)
    assert text.text == "".join(pieces)


def test_repeated_pieces_are_one_and_lost_ones_a_gap() -> None:
    text = TokenText()
    text.take(1, 0, "ab")
    text.take(1, 0, "ab")
    text.take(1, 6, "gh")
    assert text.text == f"ab{GAP}gh"
    text.take(2, 0, "new")
    text.take(1, 8, "late")
    assert (text.text, text.attempt) == ("new", 2)


def test_of_a_text_without_end_the_end_stays() -> None:
    text, offset = TokenText(), 0
    for number in range(700):
        piece = f"{number:>999}\n"
        text.take(1, offset, piece)
        offset += len(piece)
        if number % 10 == 0:
            text.lines(80)
    assert len(text.text) <= MOST
    assert text.lines(80)[-2].endswith("699")
    assert text.lines(80) == wrap(text.text, 80)


def test_the_texts_of_a_few_tasks_are_kept() -> None:
    texts = Texts()
    for number in range(TEXTS + 3):
        texts.follow([f"t{number}"])
    texts.follow(["t5"])
    assert len(texts) == TEXTS
    assert list(texts)[-1] == "t5"
    kept = texts.copy()
    texts["t5"].take(1, 0, "more")
    assert kept["t5"].text == ""
