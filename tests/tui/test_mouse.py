"""The mouse: what a line offers can be clicked, and the wheel moves."""


def column(sitting, text: str, line: int) -> int:
    return sitting.screen.splitlines()[line].index(text)


async def test_a_click_on_a_tab_opens_its_view(seat):
    async with seat() as sitting:
        await sitting.click(column(sitting, "Tasks", 1), 1)
        assert sitting.dash.view == "tasks"
        await sitting.click(column(sitting, "Overview", 1), 1)
        assert sitting.dash.view == "overview"


async def test_a_click_goes_to_a_row_and_a_second_one_opens_it(seat):
    async with seat(view="tasks") as sitting:
        wanted = sitting.dash.here.table.order[4]
        line = next(
            at for at, text in enumerate(sitting.screen.splitlines()) if f" {wanted} " in text
        )
        await sitting.click(10, line)
        assert sitting.dash.here.table.cursor == wanted
        assert sitting.dash.view == "tasks"
        await sitting.click(10, line)
        assert sitting.dash.view == "task"


async def test_a_click_on_a_heading_sorts(seat):
    async with seat(view="tasks") as sitting:
        assert sitting.dash.here.table.sort != "cost"
        await sitting.click(column(sitting, "COST", 3), 3)
        assert sitting.dash.here.table.sort == "cost"


async def test_a_click_on_the_key_bar_presses_the_key(seat):
    async with seat() as sitting:
        await sitting.click(column(sitting, "submit", 35), 35)
        assert sitting.dialog == "Submit"


async def test_the_wheel_moves_the_cursor(seat):
    async with seat(view="tasks", tasks=200) as sitting:
        table = sitting.dash.here.table
        await sitting.wheel(2)
        assert table.order.index(table.cursor) == 6
        await sitting.wheel(-1)
        assert table.order.index(table.cursor) == 3


async def test_a_click_on_nothing_does_nothing(seat):
    async with seat() as sitting:
        before = sitting.screen
        await sitting.click(118, 0)
        assert sitting.screen == before
