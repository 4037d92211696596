"""Local files in a conversation: {"type": "image", "path": "cat.png"} becomes the image itself.

They are read where a task is submitted, by whoever wrote it, and never by a worker: a task that
came over the bus must not be able to name a file of the machine that runs it.
"""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any, Final

from agentflow.errors import InvalidTask, UsageError
from agentflow.protocol import limits

BLOCKS: Final = ("image", "document")
_IMAGES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_PDF: Final = b"%PDF-"

Json = dict[str, Any]


class Folder:
    """Files relative to one folder. What is read again must be what was read before."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, tuple[int, int]] = {}

    def attached(self, kind: str | None, params: Json | None) -> Json | None:
        """Params of a task with the files that its messages name; as they are where they name none.

        Raises InvalidTask that names the place and the file, UsageError where one has changed since
        it was read before.
        """
        messages = (params or {}).get("messages")
        if kind not in (None, "claude") or not isinstance(messages, list):
            return params  # what another kind calls a path is its own affair
        said = [
            self._content(one, f"params.messages[{at}]", within=False)
            for at, one in enumerate(messages)
        ]
        unchanged = all(new is old for new, old in zip(said, messages, strict=True))
        return params if unchanged else {**(params or {}), "messages": said}

    def _content(self, holder: Any, at: str, *, within: bool) -> Any:
        """A message, or a tool's result in it, with the files of its content."""
        content = holder.get("content") if isinstance(holder, dict) else None
        if not isinstance(content, list):
            return holder
        blocks = [
            self._block(block, f"{at}.content[{place}]", within=within)
            for place, block in enumerate(content)
        ]
        if all(new is old for new, old in zip(blocks, content, strict=True)):
            return holder
        return {**holder, "content": blocks}

    def _block(self, block: Any, at: str, *, within: bool) -> Any:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "tool_result" and not within:
            return self._content(block, at, within=True)
        if kind not in BLOCKS or "path" not in block:
            return block
        path = block["path"]
        if "source" in block:
            raise InvalidTask(f"{at} has both a path and a source; give one of them")
        if not isinstance(path, str) or not path or "\0" in path:
            raise InvalidTask(f"{at}.path is {path!r:.80}, not the name of a file")
        others = {name: value for name, value in block.items() if name != "path"}
        return {**others, "source": self._source(kind, self._folder / path, at)}

    def _source(self, kind: str, path: Path, at: str) -> Json:
        data = self._read(path, at)
        media = media_type(data)
        if kind == "document" and media == "text/plain":
            return {"type": "text", "media_type": media, "data": data.decode("utf-8-sig")}
        if media is None or (kind == "image") != media.startswith("image/"):
            wanted = "a JPEG, PNG, GIF or WebP" if kind == "image" else "a PDF or UTF-8 text"
            found = "none of these" if media is None else f"{media}"
            raise InvalidTask(f"{at}: {path} is {found}, and {kind} takes {wanted}")
        return {"type": "base64", "media_type": media, "data": base64.b64encode(data).decode()}

    def _read(self, path: Path, at: str) -> bytes:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # to open a pipe could wait for ever
                raise InvalidTask(f"{at}: {path} is no ordinary file")
            # As base64 it is a third longer.
            if status.st_size * 4 // 3 > limits.PAYLOAD_BYTES:
                raise InvalidTask(
                    f"{at}: {path} has {status.st_size:,} bytes, and a request with it more than "
                    f"the {limits.PAYLOAD_BYTES:,} that the API takes"
                )
            with path.open("rb") as file:
                data = file.read(limits.PAYLOAD_BYTES)
        except OSError as error:
            raise InvalidTask(f"{at}: cannot read {path}: {error.strerror or error}") from None
        if not data:
            raise InvalidTask(f"{at}: {path} is empty")
        mark = (status.st_size, status.st_mtime_ns)
        if self._seen.setdefault(path, mark) != mark:
            raise UsageError(f"{path} has changed since it was checked; run it again")
        return data


def media_type(data: bytes) -> str | None:
    """What a file is by its content: an image that the API takes, a PDF, or text; else None."""
    for magic, media in _IMAGES:
        if data.startswith(magic):
            return media
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if _PDF in data[:1024]:
        return "application/pdf"
    if b"\0" in data:
        return None
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return "text/plain"
