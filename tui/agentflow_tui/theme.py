"""Themes: what each token of a line looks like.

One table says what a token is (`_LOOKS`): a colour by its role, a ground, attributes. A palette
gives the roles colours; so a theme is a palette, and all themes agree on what stands out. Where
there are no colours at all a second, shorter table stands in (`_PLAIN`): bold, reverse, underline.

A token that no table knows looks like its family (`worker.new` like `worker`), then like text: a
newer view must not be able to break the screen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from rich.color import Color
from rich.style import Style
from textual.theme import Theme as Chrome

from agentflow.errors import UsageError

Name = Literal["dark", "light", "ansi", "none"]
NAMES: Final[tuple[Name, ...]] = ("dark", "light", "ansi", "none")


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of a theme by what they are for."""

    ground: str
    panel: str
    text: str
    strong: str
    dim: str
    rule: str
    title: str
    key: str
    act: str
    good: str
    watch: str
    bad: str
    flow: str
    other: str
    cursor: str
    mark: str
    alarm: str
    travel: str
    on_colour: str
    lit: str
    """Text under the cursor."""


_DARK: Final = Palette(
    ground="#12161d",
    panel="#1b212b",
    text="#c8d0db",
    strong="#eef2f7",
    dim="#7d8899",
    rule="#343d4b",
    title="#8db3dd",
    key="#79c4ba",
    act="#e6ab6c",
    good="#86c79a",
    watch="#e6bc72",
    bad="#f0817f",
    flow="#74b8ea",
    other="#b7a2e3",
    cursor="#26374f",
    mark="#2f2d1f",
    alarm="#8f2f36",
    travel="#4b3f7d",
    on_colour="#ffffff",
    lit="#eef2f7",
)
_LIGHT: Final = Palette(
    ground="#fbfaf7",
    panel="#ecebe6",
    text="#2b323b",
    strong="#0d1117",
    dim="#5e6774",
    rule="#cbccc8",
    title="#1d5c9c",
    key="#0c6e66",
    act="#985400",
    good="#1c7639",
    watch="#8a5a00",
    bad="#b4262a",
    flow="#1667a8",
    other="#6a47ae",
    cursor="#d6e4f3",
    mark="#f3ecd0",
    alarm="#b4262a",
    travel="#6a47ae",
    on_colour="#ffffff",
    lit="#0d1117",
)
# The sixteen colours are the person's own choice: no ground is set, and nothing depends on a hue.
_ANSI: Final = Palette(
    ground="default",
    panel="default",
    text="default",
    strong="default",
    dim="bright_black",
    rule="bright_black",
    title="cyan",
    key="cyan",
    act="yellow",
    good="green",
    watch="yellow",
    bad="red",
    flow="blue",
    other="magenta",
    cursor="blue",
    mark="default",
    alarm="red",
    travel="magenta",
    on_colour="bright_white",
    lit="bright_white",
)

_LOOKS: Final[dict[str, str]] = {
    "text": "text",
    "dim": "dim",
    "bold": "strong bold",
    "title": "title bold",
    "rule": "rule",
    "heading": "dim",
    "heading.sorted": "title bold",
    "key": "key",
    "key.act": "act",
    "keybar": "dim on panel",
    "brand": "strong bold on panel",
    "status": "text on panel",
    "tabs": "dim",
    "tab": "dim",
    "tab.here": "strong bold underline",
    "banner": "on_colour bold on alarm",
    "travel": "on_colour on travel",
    "cursor": "lit on cursor",
    "marked": "text on mark",
    "mark": "act bold",
    "ok": "good",
    "warn": "watch",
    "crit": "bad bold",
    "spark": "flow",
    "spark.money": "good",
    "state": "text",
    "state.queued": "dim",
    "state.scheduled": "other",
    "state.retrying": "watch",
    "state.waiting": "watch",
    "state.running": "flow",
    "state.succeeded": "good",
    "state.failed": "bad",
    "state.cancelled": "dim",
    "worker": "text",
    "worker.busy": "flow",
    "worker.idle": "dim",
    "worker.draining": "watch",
    "worker.lost": "bad bold",
    "match": "strong bold on cursor",
    "code": "key",
    "quote": "dim italic",
}
_PLAIN: Final[dict[str, str]] = {
    "bold": "bold",
    "title": "bold",
    "heading.sorted": "bold",
    "key": "bold",
    "key.act": "bold underline",
    "brand": "bold",
    "status": "reverse",
    "tab.here": "bold underline",
    "banner": "bold reverse",
    "travel": "reverse",
    "cursor": "reverse",
    "marked": "underline",
    "mark": "bold",
    "crit": "bold",
    "worker.lost": "bold",
    "match": "bold reverse",
}
TOKENS: Final = frozenset(_LOOKS)
"""Every token that has a look of its own."""
_UNFADED: Final = frozenset({"status", "tabs", "banner", "keybar", "travel"})


class Theme:
    """A theme: styles of tokens under a base token."""

    def __init__(self, name: Name, palette: Palette | None, *, dark: bool, chrome: str) -> None:
        self.name = name
        self.dark = dark
        self.chrome = chrome
        """Name of the Textual theme for what Textual draws: inputs, editors, the palette."""
        self.palette = palette
        self._styles: dict[tuple[str, str, bool], Style] = {}

    def style(self, token: str, base: str = "", *, faded: bool = False) -> Style:
        """How a token looks on a line; `faded`: the line is not of now."""
        key = (token, base, faded)
        kept = self._styles.get(key)
        if kept is None:
            kept = self._styles[key] = self._made(token, base, faded and base not in _UNFADED)
        return kept

    def _made(self, token: str, base: str, faded: bool) -> Style:
        if self.palette is None:
            plain = _plain(token) if not base else _plain(base) + _plain(token)
            return plain + Style(dim=True) if faded else plain
        if faded:
            token = "rule" if token == "rule" else "dim"
        look = _look(token)
        under = _look(base) if base else _look("text")
        ground = look.ground or under.ground or "ground"
        # On a coloured ground the plain text of a line takes the line's colour.
        takes = token in ("text", "") or (self.name == "ansi" and under.ground not in ("", "panel"))
        colour = under.colour if base and takes else look.colour
        own = look.attributes | (under.attributes if base else frozenset())
        style = Style(
            color=_colour(getattr(self.palette, colour)),
            bgcolor=_colour(getattr(self.palette, ground)),
        )
        return style + _attributes(own)


@dataclass(frozen=True, slots=True)
class _Look:
    colour: str
    ground: str
    attributes: frozenset[str]


@cache
def _look(token: str) -> _Look:
    words = _of_family(_LOOKS, token, "text").split()
    ground = ""
    if "on" in words:
        at = words.index("on")
        ground = words[at + 1]
        del words[at : at + 2]
    return _Look(words[0], ground, frozenset(words[1:]))


def _plain(token: str) -> Style:
    return _attributes(frozenset(_of_family(_PLAIN, token, "").split()))


def _of_family(table: Mapping[str, str], token: str, otherwise: str) -> str:
    while token:
        if token in table:
            return table[token]
        token = token.rpartition(".")[0]
    return otherwise


@cache
def _attributes(names: frozenset[str]) -> Style:
    return Style(
        bold="bold" in names or None,
        italic="italic" in names or None,
        underline="underline" in names or None,
        reverse="reverse" in names or None,
    )


@cache
def _colour(name: str) -> Color:
    return Color.parse(name)


THEMES: Final[dict[str, Theme]] = {
    "dark": Theme("dark", _DARK, dark=True, chrome="agentflow-dark"),
    "light": Theme("light", _LIGHT, dark=False, chrome="agentflow-light"),
    "ansi": Theme("ansi", _ANSI, dark=True, chrome="ansi-dark"),
    "none": Theme("none", None, dark=True, chrome="ansi-dark"),
}


def chromes() -> list[Chrome]:
    """The themes that Textual must know, made of the same palettes."""
    return [
        Chrome(
            name=THEMES[name].chrome,
            primary=palette.flow,
            secondary=palette.title,
            accent=palette.key,
            warning=palette.watch,
            error=palette.bad,
            success=palette.good,
            foreground=palette.text,
            background=palette.ground,
            surface=palette.panel,
            panel=palette.panel,
            dark=THEMES[name].dark,
            variables={
                "block-cursor-background": palette.cursor,
                "block-cursor-foreground": palette.strong,
                "block-cursor-text-style": "bold",
                "input-cursor-background": palette.strong,
                "input-cursor-foreground": palette.ground,
                "input-selection-background": palette.cursor,
                "border": palette.title,
                "border-blurred": palette.rule,
            },
        )
        for name, palette in (("dark", _DARK), ("light", _LIGHT))
    ]


def choose(wanted: str, environment: Mapping[str, str]) -> Theme:
    """The theme that was asked for by name; `auto` or "": what the terminal says of itself.

    Raises UsageError for a name that is none.

    NO_COLOR (https://no-color.org) counts where it is not empty. COLORTERM names terminals of 24
    bits; the others get the sixteen colours, which cost a third of the bytes. COLORFGBG, where a
    terminal sets it, tells a light ground from a dark one.
    """
    if wanted and wanted != "auto":
        if wanted not in THEMES:
            raise UsageError(f"there is no theme {wanted}; there are auto, {', '.join(THEMES)}")
        return THEMES[wanted]
    if environment.get("NO_COLOR"):
        return THEMES["none"]
    if environment.get("TERM") == "dumb":
        return THEMES["none"]
    if environment.get("COLORTERM", "").lower() not in ("truecolor", "24bit"):
        return THEMES["ansi"]
    ground = environment.get("COLORFGBG", "").rpartition(";")[2]
    return THEMES["light" if ground in ("7", "15") else "dark"]
