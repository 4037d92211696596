"""Takes keys out of every text that leaves the handler, in any spelling an error may quote.

A record, a dead letter, a log line or a cockpit shows what a gateway or an exception says, and
those quote requests: as they are, as a URL, as JSON, as Python shows a string, cut after a few
dozen characters, or in Base64.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus, urlsplit

import anthropic

from agentflow.handlers.claude.message import well_formed
from agentflow.protocol import limits

SHORTEST: Final = 12
"""Shorter ones are no secret, and taking them out of a text would spoil words."""
LOGGED: Final = 16 * 1024
"""Characters of a log line."""
ID: Final = 128
"""Characters of a request's id."""

_RUN: Final = r"[\w.~%+/=-]*"
_KEYS: Final = re.compile(r"sk-ant-[\w.~%+/=-]{4,}")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)(\s+|%20|\+)(?=[\w.~%+/=-]*\d)[\w.~%+/=-]{12,}")
_USER: Final = re.compile(r"(?<=://)[^\s/@]+@")
_SENSITIVE: Final = re.compile(r"(?i)auth|key|token|secret|cookie|password")


class Secrets:
    """What nobody may read: a client's credentials, and those of its proxies and addresses."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= SHORTEST
            for spelling in _spellings(secret)
        }
        # The longest first, and then each where a text was cut within it.
        ordered = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
        pattern = "|".join(
            [*map(re.escape, ordered), *(re.escape(one[:SHORTEST]) + _RUN for one in ordered)]
        )
        self._known = re.compile(pattern) if pattern else None

    def hidden(self, text: str, length: int = limits.ERROR_TEXT) -> str:
        """The text without them, fit for a record."""
        # Cut first where it is huge: a pattern over a page of megabytes would hold the loop up.
        text = str(well_formed(text[: 4 * length]))
        if self._known is not None:
            text = self._known.sub("[key]", text)
        text = _KEYS.sub("[key]", text)
        text = _BEARER.sub(r"\1\2[key]", text)
        return _USER.sub("[credentials]@", text)[:length]

    def name(self, text: str | None) -> str | None:
        """An id or a type that a service sent: one line, short."""
        if not text:
            return None
        return "".join(filter(str.isprintable, self.hidden(text, ID))) or None


class _Hiding(logging.Filter):
    """Takes secrets out of what the SDK and what it stands on log."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """The record, its arguments and its traceback as one text without them."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        record.msg, record.args, record.exc_info = self._secrets.hidden(text, LOGGED), (), None
        return True


def watch_logs(secrets: Secrets) -> None:
    """From now on no log line of the SDK and what it stands on holds them, debug lines neither."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("anthropic", "httpx2", "httpcore2", "aiohttp"):
            logger = logging.getLogger(name)
            for before in [one for one in logger.filters if isinstance(one, _Hiding)]:
                logger.removeFilter(before)
            logger.addFilter(_Hiding(secrets))


def of_client(
    client: anthropic.AsyncAnthropic, proxies: Mapping[str, str], *more: str | None
) -> Secrets:
    """All that this client sends to say who it is."""
    known = [client.api_key, client.auth_token, *more]
    for name, value in client.default_headers.items():
        if isinstance(value, str) and _SENSITIVE.search(name):
            known += [value, value.partition(" ")[2]]
    for url in (str(client.base_url), *proxies.values()):
        known.append(urlsplit(url).password)
    return Secrets(filter(None, known))


def _spellings(secret: str) -> Iterable[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield repr(secret)[1:-1]
    yield ascii(secret)[1:-1]
    for text in (secret, f"x:{secret}", f":{secret}", f"{secret}:"):
        encoded = text.encode("utf-8", "surrogatepass")
        yield base64.b64encode(encoded).decode().rstrip("=")
        yield base64.urlsafe_b64encode(encoded).decode().rstrip("=")
    yield secret.encode("utf-8", "surrogatepass").hex()
