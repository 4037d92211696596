"""Pictures of the web page for docs/web.md: a simulated stack under load, in a real Chromium.

    make web-pictures

What is seen is real but for the names of this machine, which are nobody's business.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

from agentflow.local.demo import Demo

FOLDER: Final = Path(__file__).parents[1] / "docs" / "pictures"
MOST: Final = 150_000
"""Bytes of a picture."""
LOAD: Final = 150.0
"""Seconds of load before the first picture, so that the charts have something to show."""
SETTLED: Final = 1_500
NAMES: Final = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); )
    node.data = node.data.replace(/\\b[\\w.-]+@[\\w.-]+/g, "you@host")
      .replace(/\\b(worker-\\d)-\\d+-[0-9a-f]{6}/g, "$1").replace(/\\b[0-9a-f]{10}\\./g, "main.");
}"""


class Shot(NamedTuple):
    """A picture: its name, the address, the size and the theme, and what is clicked before."""

    name: str
    path: str
    width: int
    height: int
    theme: str
    click: tuple[str, ...] = ()


SHOTS: Final = (
    Shot("web-overview-light", "", 1440, 900, "light"),
    Shot("web-overview-dark", "", 1440, 900, "dark"),
    Shot("web-tasks-light", "tasks", 1024, 768, "light"),
    Shot("web-tasks-dark", "tasks?q=state:failed", 1024, 768, "dark"),
    Shot("web-task", "TASK", 1024, 768, "light"),
    Shot("web-act", "queues/review", 1024, 640, "light", ("Pause",)),
    Shot("web-phone-light", "", 390, 844, "light"),
    Shot("web-phone-dark", "tasks", 390, 844, "dark"),
)


def taken(page: Any, base: str, shot: Shot) -> bytes:
    """The picture as a PNG."""
    path = shot.path
    if path == "TASK":
        query = "v1/tasks?state=succeeded&kind=claude&limit=1&fields=id"
        path = "tasks/" + page.request.get(f"{base}/{query}").json()["tasks"][0]["id"]
    page.set_viewport_size({"width": shot.width, "height": shot.height})
    page.emulate_media(color_scheme=shot.theme)
    page.goto(f"{base}/{path}")
    page.wait_for_timeout(SETTLED)
    for name in shot.click:
        page.get_by_role("button", name=name, exact=True).first.click()
        page.wait_for_timeout(SETTLED / 3)
    page.evaluate(NAMES)
    data: bytes = page.screenshot()
    return data


def smaller(data: bytes) -> bytes:
    """The picture with 256 colours, where pngquant is there."""
    program = shutil.which("pngquant")
    if program is None:
        return data
    return subprocess.run([program, "-"], input=data, capture_output=True, check=True).stdout


def main() -> None:
    """Start a stack and a gateway, look at them, write the pictures."""
    from playwright.sync_api import sync_playwright

    from tests.support.tools import chromium

    with Demo() as demo:
        command = (sys.executable, "-m", "agentflow", "gateway", "--nats", demo.url, "--port", "0")
        gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert gateway.stdout is not None
        said = gateway.stdout.readline()
        found = re.search(r"http://\S+", said)
        if found is None:
            raise SystemExit(f"the gateway did not start: {said}")
        options = ["--no-sandbox"] if os.getuid() == 0 else []
        try:
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=chromium(), args=options)
                page = browser.new_page()
                page.wait_for_timeout(LOAD * 1000)
                for shot in SHOTS:
                    data = smaller(taken(page, found[0], shot))
                    if len(data) > MOST:
                        raise SystemExit(f"{shot.name} has {len(data):,} bytes")
                    (FOLDER / f"{shot.name}.png").write_bytes(data)
                    print(f"{shot.name}.png: {len(data):,} bytes")
        finally:
            gateway.terminate()
            gateway.wait(10)


if __name__ == "__main__":
    main()
