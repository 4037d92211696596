"""The text of an answer nobody scripted."""

from __future__ import annotations

import pytest

from agentflow.simulator import prose


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Go",
        "Explain turbines",
        "Compare wind turbines with tidal turbines",
        "日本語の質問",
        "é" * 9000,
    ],
    ids=["empty", "one word", "one topic", "two topics", "no Latin", "long"],
)
def test_a_text_is_marked_and_no_sentence_comes_twice(prompt: str) -> None:
    text = prose.answer(prompt)
    sentences = text.removeprefix("[SIMULATED] ").split(". ")

    assert text.startswith("[SIMULATED] ")
    assert text == prose.answer(prompt)
    assert 3 <= len(sentences) <= 11
    assert len(set(sentences)) == len(sentences)


def test_texts_differ_and_speak_of_their_prompts() -> None:
    texts = [prose.answer(f"Describe the harbour lights of town {number}") for number in range(300)]

    assert len(set(texts)) > 250
    assert all("harbour" in text or "lights" in text for text in texts)
