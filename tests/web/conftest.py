"""A page in a real Chromium, before a gateway of the test's own; its console says nothing."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.conftest import client, nats_server, serve, stack
from tests.support import tools

if TYPE_CHECKING:
    from playwright.async_api import Page

__all__ = ["client", "nats_server", "serve", "stack"]

WITHIN = 15_000
"""Milliseconds that something may take to be seen."""
TELLS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
"""


class Browser:
    """One page, and what its console said."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.base = ""
        self.complaints: list[str] = []
        self.expected = re.compile("(?!)")
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and not self.expected.search(message.text):
            self.complaints.append(f"{message.type}: {message.text}")

    async def open(self, path: str = "") -> None:
        """Go to an address of the gateway."""
        await self.page.goto(f"{self.base}/{path}")

    async def sees(self, text: str, within: str = "main") -> None:
        """Return once this is seen."""
        found = self.page.locator(within).get_by_text(text, exact=False)
        try:
            await found.first.wait_for(timeout=WITHIN)
        except Exception as error:
            shown = await self.page.locator(within).first.inner_text()
            raise AssertionError(f"{self.page.url} has no {text!r}: {shown[:2000]}") from error

    async def click(self, name: str, role: Any = "button", within: str = "body") -> None:
        """Click what is called so."""
        found = self.page.locator(within).get_by_role(role, name=name, exact=True)
        await found.first.click(timeout=WITHIN)

    async def confirms(self, word: str, command: str) -> None:
        """A dialog shows this command line; go on."""
        dialog = self.page.locator("dialog")
        await dialog.get_by_text(command, exact=True).first.wait_for(timeout=WITHIN)
        await dialog.get_by_role("button", name=word, exact=True).click()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A page; whatever its console complains of fails the test."""
    playwright = pytest.importorskip("playwright.async_api", reason="`make test-web` installs it")
    program = tools.chromium()
    # The sandbox of Chromium does not run as root.
    options = ["--no-sandbox"] if os.getuid() == 0 else []
    async with playwright.async_playwright() as started:
        chromium = await started.chromium.launch(executable_path=program, args=options)
        context = await chromium.new_context(viewport={"width": 1280, "height": 800})
        await context.add_init_script(TELLS)
        made = Browser(await context.new_page())
        made.page.set_default_timeout(WITHIN)
        yield made
        await chromium.close()
    assert made.complaints == []
