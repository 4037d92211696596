"""The terminal's driver: Textual's, made safe against a terminal that is gone.

Textual writes in a thread, through a queue of bounded length. When the terminal goes away (a closed
window, a cut connection) that thread dies, and whoever writes next waits for it for ever. Here what
cannot be written is dropped, and the app is told once.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

STDERR = 2


class Terminal(LinuxDriver):
    """A terminal that may go away."""

    written = 0
    """Characters so far, for the meter."""
    gone = False

    def _get_terminal_size(self) -> tuple[int, int]:
        # Not shutil's: COLUMNS and LINES of the environment would be believed for ever.
        for fileno in (self.fileno, STDERR):
            try:
                columns, lines = os.get_terminal_size(fileno)
            except OSError:
                continue
            if columns and lines:
                return columns, lines
        return super()._get_terminal_size()

    def write(self, data: str) -> None:
        """Write, or note that nobody is there to read."""
        writer = self._writer_thread
        if writer is None or not writer.is_alive():
            self._lost()
            return
        self.written += len(data)
        writer.write(data)

    def close(self) -> None:
        """End the thread, if it has not ended by itself."""
        if self._writer_thread is not None and self._writer_thread.is_alive():
            super().close()

    def _run_input_thread(self) -> None:
        try:
            self.run_input_thread()
        except BaseException:
            # Reading fails when the terminal is gone; a traceback would find no reader either.
            self._loop.call_soon_threadsafe(self._lost)

    def _lost(self, *_: Any) -> None:
        if not self.gone:
            self.gone = True
            self._app.exit(128 + signal.SIGHUP)
