"""What is drawn, and what goes to the terminal: only what changed, and nothing that disturbs."""

import re

from rich.cells import cell_len

from agentflow_tui.theme import THEMES
from tests.dashboard.support.seat import SEQUENCE

COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m")
SIZES = ((200, 60), (80, 24), (60, 20), (59, 19), (40, 10), (20, 5), (1, 1))
HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]52;c;cm0gLXJm\x07",
    "\x9b2J",
    "[bold red]markup[/] [@click=app.exit]x[/]",
    "a\u202eevil\u202c",
    "日本語のテキスト" * 20,
    "e\u0301\u0301\u0301" * 50,
    "👩‍👩‍👧‍👦 family 🏳️‍🌈",
    "line\nbreak\ttab\rreturn\x08\x08",
    "\ud800 lone",
    "\\[not] an escape [/",
)


async def test_changes_out_of_sight_draw_nothing_and_send_nothing(seat):
    async with seat(view="tasks", tasks=400) as sitting:
        seen = set(sitting.dash.here.table.order[:40])
        hidden = [task for task in sitting.life.rows if task not in seen][:100]
        # Else what was spent would move to the minute in which they are touched.
        await sitting.tell(*(sitting.life.touch(task, cost=0) for task in hidden))
        assert sitting.sent
        drawn = await sitting.tell(*(sitting.life.touch(task, note="busy") for task in hidden))
        assert drawn == 0
        assert sitting.sent == ""


async def test_one_changed_row_is_one_line(seat):
    async with seat(view="tasks", tasks=400) as sitting:
        task = sitting.dash.here.table.order[5]
        await sitting.look()
        assert sitting.sent
        assert await sitting.tell(sitting.life.touch(task, note="now it is here")) <= 2
        sent = sitting.sent
        assert "now it is" in sent
        assert len(sent) < 1500


async def test_a_move_of_the_cursor_is_two_lines(seat):
    async with seat(view="tasks", tasks=400) as sitting:
        before = sitting.app.canvas.changed
        await sitting.press("j")
        assert sitting.app.canvas.changed - before == 2


async def test_nothing_is_drawn_while_nothing_changes(seat):
    async with seat() as sitting:
        assert await sitting.look() == 0
        sitting.app.is_dirty()
        # No turn of the loop from here on, so the clock cannot ask in between.
        assert not sitting.app.is_dirty()
        sitting.dash.store.apply(sitting.life.touch("t-000001", note="x"))
        assert sitting.app.is_dirty()
        assert not sitting.app.is_dirty()
        sitting.life.at += 1
        assert sitting.app.is_dirty()


async def test_hostile_text_is_text(seat):
    async with seat(view="tasks", tasks=60) as sitting:
        rows = list(sitting.dash.here.table.order[: len(HOSTILE)])
        await sitting.look()
        assert sitting.sent
        for task, text in zip(rows, HOSTILE, strict=True):
            await sitting.tell(sitting.life.touch(task, note=text, error=text, model=text))
            await sitting.press("j")
        for view in ("1", "2", "7"):
            await sitting.press(view)
        sent = SEQUENCE.sub("", sitting.sent)
        # Nothing but line breaks between rows is left when our own sequences are taken out.
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", sent)
        assert "title" not in sitting.app.title
        for strip in sitting.app.screen._compositor.render_strips():
            assert cell_len(strip.text) == 120


async def test_markup_in_dialogs_is_text(seat):
    async with seat(view="tasks", tasks=60) as sitting:
        task = sitting.dash.here.table.order[0]
        await sitting.tell(sitting.life.touch(task, labels=',"[red]x[/]":"[b]"'))
        await sitting.press("b")
        assert "label [red]x[/]" in sitting.screen


async def test_without_colours_none_is_sent(seat):
    for view in ("overview", "tasks"):
        async with seat(view=view, theme="none", size=(100, 30)) as sitting:
            await sitting.press("j", "space", "j")
            await sitting.tell(sitting.life.lose())
            sent = sitting.sent
            assert "\x1b[7m" in sent or ";7m" in sent
            assert not COLOUR.search(sent)


async def test_sixteen_colours_are_named_not_mixed(seat):
    async with seat(theme="ansi") as sitting:
        sent = sitting.sent
        assert COLOUR.search(sent)
        assert "38;2;" not in sent
        assert "38;5;" not in sent


async def test_the_loss_of_the_connection_fades_what_is_old(seat):
    async with seat() as sitting:
        await sitting.tell(sitting.life.lose("gone"))
        assert "4222 gone" in sitting.screen.splitlines()[1]
        strip = sitting.app.canvas.render_line(8)
        dim = THEMES["dark"].style("dim").color
        assert {segment.style.color for segment in strip} == {dim}
        await sitting.press("n")
        assert sitting.dialog == ""
        assert "there is no connection" in sitting.notice
        await sitting.tell(sitting.life.found())
        assert "4222 gone" not in sitting.screen
        strip = sitting.app.canvas.render_line(6)
        assert len({segment.style.color for segment in strip}) > 1


async def test_every_size_is_filled_and_none_fails(seat):
    async with seat() as sitting:
        for view in ("1", "2", "7"):
            await sitting.press(view)
            for width, height in (
                (200, 60),
                (80, 24),
                (60, 20),
                (59, 19),
                (40, 10),
                (20, 5),
                (1, 1),
            ):
                await sitting.resize(width, height)
                lines = [strip.text for strip in sitting.app.screen._compositor.render_strips()]
                assert len(lines) == height
                assert {cell_len(text) for text in lines} == {width}
        assert sitting.notice == ""
