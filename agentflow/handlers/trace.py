"""Where somebody's function failed: the line of theirs, and the way there.

Our own frames, between the worker and the function, tell its author nothing and are left out.
"""

from __future__ import annotations

import os
import sysconfig
import traceback
from types import FrameType, TracebackType
from typing import Final

from agentflow.handlers.contract import Trace
from agentflow.protocol import limits

OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
FRAMES: Final = 20
"""The last so many of each traceback; a recursion has a thousand."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_LIBRARIES: Final = tuple(
    {os.path.join(path, "") for path in map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))}
)


def trace_of(error: BaseException, group: BaseException | None = None) -> Trace:
    """Where `error` came from, with the traceback of the group that it stood in, if any."""
    return Trace(_at(error), _text(error if group is None else group))


def exc_info(error: BaseException) -> ExcInfo | None:
    """For the log: without our frames; None where the text could not be written."""
    try:
        (_text(error) or "").encode()
    except UnicodeEncodeError:
        return None
    return type(error), error, _theirs(error)


def _at(error: BaseException) -> str | None:
    frames = [(tb.tb_frame, tb.tb_lineno) for tb in _chain(_theirs(error))]
    if not frames:
        return None
    # What failed within a library was called from a line that its author can change.
    own = [one for one in frames if not one[0].f_code.co_filename.startswith(_LIBRARIES)]
    frame, line = (own or frames)[-1]
    return f"{_shown(frame)}:{line} in {frame.f_code.co_qualname}"


def _text(error: BaseException) -> str | None:
    theirs = _theirs(error)
    if theirs is None:
        return None
    try:
        lines = traceback.format_exception(type(error), error, theirs, limit=-FRAMES)
    except Exception:  # a broken __str__ must not hide the failure it belongs to
        lines = traceback.format_tb(theirs, limit=-FRAMES)
    whole = "".join(lines).rstrip("\n")
    # Its end says what went wrong.
    return whole if len(whole) <= limits.TRACEBACK else "... " + whole[4 - limits.TRACEBACK :]


def _theirs(error: BaseException) -> TracebackType | None:
    """The traceback from the first line on that is not ours."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(OURS):
        tb = tb.tb_next
    return tb


def _chain(tb: TracebackType | None) -> list[TracebackType]:
    frames = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    return frames


def _shown(frame: FrameType) -> str:
    """The file, from here where it lies below."""
    path = frame.f_code.co_filename
    try:
        return path.removeprefix(os.path.join(os.getcwd(), ""))
    except OSError:  # somebody removed this directory
        return path
