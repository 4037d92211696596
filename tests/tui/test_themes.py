"""Themes: every token has a look in every one, and what is read can be read."""

import ast
from pathlib import Path

import pytest
from rich.color import Color

import agentflow.dashboard
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.errors import UsageError
from agentflow_tui.theme import THEMES, TOKENS, choose
from tests.dashboard.support.lifelike import Lifelike

MODEL = Path(agentflow.dashboard.__file__).parent
CHROME = ("rule",)
"""What is drawn, not read."""


def drawn() -> set[str]:
    """Tokens of all views of a lifelike system, in all its moods."""
    life = Lifelike(tasks=400, workers=5)
    found: set[str] = set()
    dash = Dashboard()
    for item in (*life.begin(), *life.pass_time(2.0, 100), life.pause("review")):
        dash.store.apply(item)
    lost = [None, life.lose()]
    for item in lost:
        if item is not None:
            dash.store.apply(item)
        for view in dash.views:
            dash.open(view, dash.store.totals.running and next(iter(dash.store.totals.running)))
            for width, height in ((160, 50), (80, 24), (40, 10)):
                for line in dash.frame(width, height, life.at):
                    found.add(line.base)
                    found.update(token for _, token in line.runs)
    return found - {""}


def written() -> set[str]:
    """Tokens that stand in the model's source: the second of a pair of a text and a word."""
    found: set[str] = set()
    for path in MODEL.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                for keyword in node.keywords:
                    if keyword.arg in ("base", "token") and isinstance(keyword.value, ast.Constant):
                        found.add(keyword.value.value)
    return {token for token in found if token}


def families(tokens: set[str]) -> set[str]:
    """Those that no theme knows, nor their family."""
    return {
        token for token in tokens if token not in TOKENS and token.rpartition(".")[0] not in TOKENS
    }


def test_every_token_of_the_model_has_a_look():
    tokens = drawn()
    assert {"state.running", "cursor", "banner", "worker.busy", "rule"} <= tokens
    assert families(tokens) == set()
    assert families(written()) == set()


@pytest.mark.parametrize("name", THEMES)
def test_every_look_can_be_made_in_every_theme(name: str):
    theme = THEMES[name]
    for token in TOKENS | {"state.unheard_of", "no such token"}:
        for base in ("", "cursor", "marked", "banner", "no such base"):
            for faded in (False, True):
                assert theme.style(token, base, faded=faded) is not None


def test_what_is_unknown_looks_like_its_family_or_like_text():
    theme = THEMES["dark"]
    assert theme.style("state.unheard_of") == theme.style("state")
    assert theme.style("nothing") == theme.style("text")


def luminance(colour: Color) -> float:
    """As WCAG 2 has it."""
    parts = []
    assert colour.triplet is not None
    for part in colour.triplet:
        share = part / 255
        parts.append(share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4)
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(first: Color, second: Color) -> float:
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("name", ["dark", "light"])
@pytest.mark.parametrize("base", ["", "cursor", "marked", "status", "keybar"])
def test_what_is_read_has_contrast_enough(name: str, base: str):
    """4.5 is what WCAG 2 asks of text, 3 of large or passing remarks (dim ones under a cursor)."""
    for token in sorted(TOKENS - set(CHROME)):
        style = THEMES[name].style(token, base)
        assert style.color is not None
        assert style.bgcolor is not None
        least = 3.0 if base else 4.5
        assert contrast(style.color, style.bgcolor) >= least, (token, base)


def test_without_colours_a_state_is_told_by_more_than_its_word():
    theme = THEMES["none"]
    for token in TOKENS:
        assert theme.style(token).color is None
        assert theme.style(token, "cursor").bgcolor is None
    assert theme.style("text", "cursor").reverse
    assert theme.style("banner", "banner").reverse
    assert theme.style("crit").bold


@pytest.mark.parametrize(
    ("wanted", "environment", "name"),
    [
        ("", {"COLORTERM": "truecolor"}, "dark"),
        ("auto", {"COLORTERM": "24bit"}, "dark"),
        ("", {"COLORTERM": "truecolor", "COLORFGBG": "0;15"}, "light"),
        ("", {"COLORTERM": "truecolor", "COLORFGBG": "15;0"}, "dark"),
        ("", {"TERM": "xterm-256color"}, "ansi"),
        ("", {}, "ansi"),
        ("", {"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
        ("", {"NO_COLOR": "1", "COLORTERM": "truecolor"}, "none"),
        ("", {"NO_COLOR": "", "COLORTERM": "truecolor"}, "dark"),
        ("light", {"NO_COLOR": "1"}, "light"),
        ("none", {"COLORTERM": "truecolor"}, "none"),
    ],
)
def test_the_terminal_says_which_theme_it_can_show(wanted, environment, name):
    assert choose(wanted, environment).name == name


def test_a_theme_that_is_none_is_a_mistake_that_names_those_there_are():
    with pytest.raises(UsageError, match="no theme nord; there are auto, dark, light, ansi, none"):
        choose("nord", {})
