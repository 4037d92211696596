"""What is seen, colours and all, of a few screens; AGENTFLOW_GOLDEN=write makes the files anew."""

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "golden"

SCREENS = {
    "overview-light": ({"theme": "light", "size": (100, 30)}, ()),
    "tasks-none": ({"theme": "none", "size": (80, 24), "view": "tasks"}, ("j", "space", "j")),
    "lost-dark": ({"size": (80, 24)}, ("lost",)),
    "confirm-dark": ({"size": (90, 26), "view": "tasks"}, ("space", "space", "c")),
}


@pytest.mark.parametrize("name", SCREENS)
async def test_the_picture_is_what_it_was(seat, name: str):
    given, keys = SCREENS[name]
    async with seat(tasks=120, **given) as sitting:
        for key in keys:
            if key == "lost":
                await sitting.tell(sitting.life.lose())
            else:
                await sitting.press(key)
        await sitting.look()
        seen = sitting.app.export_screenshot(title=name)
    path = FOLDER / f"{name}.svg"
    if os.environ.get("AGENTFLOW_GOLDEN") == "write":
        FOLDER.mkdir(exist_ok=True)
        path.write_text(seen)
    if path.read_text() != seen:
        (Path.cwd() / path.name).write_text(seen)
        pytest.fail(f"{name} looks different: compare {path} and {Path.cwd() / path.name}")
