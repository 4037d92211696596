"""Values of labels: where a stranger may choose the text, there must be few of them."""

from __future__ import annotations

from typing import Final

from agentflow.views.display import one_line

OTHER: Final = "other"
MOST: Final = 50
"""Values of one label."""
LABEL_CHARS: Final = 80


class Words:
    """The values of a label: the first `most` as they are, then "other"."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def __call__(self, word: str | None) -> str:
        label = self._known.get(word or "")
        if label is not None:
            return label
        if len(self._known) >= self._most:
            return OTHER
        label = one_line(word or "", LABEL_CHARS) or "none"
        self._known[word or ""] = label
        return label
