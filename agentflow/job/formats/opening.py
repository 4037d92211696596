"""A file, a pipe or standard input as UTF-8 bytes that can be read from the start again and again.

What cannot be a file of tasks is refused for what it is, before any of it is taken for a prompt.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import shutil
import stat
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Final, cast

from agentflow.errors import UsageError

HEAD: Final = 65_536
"""Bytes that say what a file is."""
PARQUET: Final = b"PAR1"
_GZIP: Final = b"\x1f\x8b"

_MARKS: Final = (
    # The longer first: UTF-32 begins as UTF-16 does.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_NO_TEXT: Final = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook or another Office file"),
    (b"%PDF-", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"{\\rtf", "a document in Rich Text Format"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"\x7fELF", "a program"),
)


class InputFile:
    """The bytes of the input. `-` and what is no ordinary file are kept in a file without a name.

    `encoding` and `compressed` say how it is stored, `head` how it begins as UTF-8. Raises
    UsageError for what cannot be read or is no file of tasks.
    """

    def __init__(self, name: str, stdin: BinaryIO) -> None:
        self.name = "standard input" if name == "-" else name
        self._path = Path(name)
        self._spool: IO[bytes] | None = None
        self._seen: tuple[int, int] | None = None
        with self._told():
            if name == "-":
                self._spool = _spooled(stdin)
            else:
                with self._path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    if not stat.S_ISREG(status.st_mode):
                        self._spool = _spooled(file)
                    self._seen = (status.st_size, status.st_mtime_ns)
            with self._raw() as raw:
                head = raw.read(HEAD)
                self.compressed = head.startswith(_GZIP)
                if self.compressed:
                    raw.seek(0)
                    head = _gunzipped(raw).read(HEAD)
        if self._spool is not None:
            weakref.finalize(self, self._spool.close)  # it lives as long as the input
        self.parquet = head.startswith(PARQUET)
        self.encoding = "utf-8"
        if not self.parquet:
            self.encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
            self._refuse(head)
        self.head = b"" if self.parquet else _decoded(head, self.encoding)
        if not self.parquet and b"\n" not in self.head and b"\r" in self.head.rstrip():
            raise UsageError(
                f"{self.name}: its lines end in a carriage return alone, as on an old Macintosh; "
                "save it with line feeds"
            )

    @property
    def seen(self) -> tuple[str, int, int]:
        """Absolute path, size in bytes and time of change in ns; no path of what is read once."""
        if self._spool is not None or self._seen is None:
            return "", 0, 0
        return str(self._path.absolute()), *self._seen

    @property
    def stored(self) -> str:
        """Encoding and compression, where they are not the usual ones."""
        shown = {"utf-8": "", "utf-8-sig": "", "utf-16": "UTF-16", "utf-32": "UTF-32"}
        parts = (shown[self.encoding], "gzip" if self.compressed else "")
        return ", ".join(part for part in parts if part)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The content from its start: UTF-8, or Parquet, which can seek. Raises UsageError."""
        with self._told(), self._raw() as raw:
            stream: BinaryIO = raw
            if self.compressed:
                stream = _gunzipped(raw)
            if self.parquet:
                if not self.compressed:
                    yield stream
                    return
                with _spooled(stream) as spool:
                    yield cast(BinaryIO, spool)
                return
            if self.encoding == "utf-8-sig":
                stream.read(len(codecs.BOM_UTF8))
            elif self.encoding != "utf-8":
                stream = cast(BinaryIO, io.BufferedReader(_Transcoded(stream, self.encoding), HEAD))
            yield stream

    @contextmanager
    def _raw(self) -> Iterator[BinaryIO]:
        if self._spool is not None:
            self._spool.seek(0)
            yield cast(BinaryIO, self._spool)
            return
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            if self._seen != (status.st_size, status.st_mtime_ns):
                raise UsageError(f"{self.name} has changed since it was checked; run it again")
            yield file

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UsageError(f"{self.name} is damaged: {_brief(error)}") from None
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{self.name} is no {error.encoding.upper()} text, as its beginning says"
            ) from None
        except OSError as error:
            raise UsageError(f"cannot read {self.name}: {error.strerror or error}") from None

    def _refuse(self, head: bytes) -> None:
        what = next((what for magic, what in _NO_TEXT if head.startswith(magic)), None)
        if head.startswith(b"PK\x03\x04"):
            what = _archive(head)
        elif head.startswith(_GZIP):
            what = "compressed twice"
        elif what is None and self.encoding == "utf-8" and b"\0" in head:
            even, odd = head[::2].count(0), head[1::2].count(0)
            # A Latin text has a zero in every other byte.
            if max(even, odd) > 0.25 * len(head) and min(even, odd) * 10 < max(even, odd):
                raise UsageError(
                    f"{self.name} looks like UTF-16 without a byte order mark; save it as UTF-8"
                )
        if what is not None:
            advice = "save its sheet as CSV" if "workbook" in what else "give a file of tasks"
            raise UsageError(f"{self.name} is {what}, no file of tasks; {advice}")


class _Transcoded(io.RawIOBase):
    """A text in another encoding as UTF-8. Line feeds alone end its lines, as they do in UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            data = self._stream.read(HEAD)
            self._ready = self._decoder.decode(data, final=not data).encode()
            if not data and not self._ready:
                return 0
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _gunzipped(raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw))


def _spooled(stream: BinaryIO) -> IO[bytes]:
    spool = tempfile.TemporaryFile()  # noqa: SIM115, whoever asked closes it
    shutil.copyfileobj(stream, spool)
    spool.seek(0)
    return spool


def _decoded(head: bytes, encoding: str) -> bytes:
    """The beginning as UTF-8; what its end cuts in two is left out."""
    if encoding == "utf-8":
        return head
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    return text.encode("utf-8", "replace")


def _archive(head: bytes) -> str:
    for mark, what in (
        (b"xl/", "an Excel workbook"),
        (b"opendocument.spreadsheet", "an OpenDocument workbook"),
        (b"word/", "a Word document"),
        (b"ppt/", "a PowerPoint presentation"),
    ):
        if mark in head:
            return what
    return "a ZIP archive (or a workbook)"


def _brief(error: BaseException) -> str:
    return str(error) or "it ends too soon"
