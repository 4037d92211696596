"""What is wanted of a gateway."""

from __future__ import annotations

import ssl
from typing import Final

import msgspec

from agentflow.errors import UsageError

PORT: Final = 8849
HOST: Final = "127.0.0.1"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a gateway listens and whom it believes.

    `names` are hosts that it may be called beside addresses and this machine's own name, `origins`
    those of pages elsewhere that may use it (CORS), `proxies` the addresses whose forwarded headers
    are believed. `path` stands before every route. `connections` is the most that one address may
    hold; `webhooks` are hosts that webhooks may go to.
    """

    host: str = HOST
    port: int = PORT
    processes: int = 1
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    path: str = ""
    tls_cert: str | None = None
    tls_key: str | None = None
    connections: int = 4096
    webhooks: tuple[str, ...] = ()
    secured: bool = False
    """Whether everybody needs a token."""

    @property
    def scheme(self) -> str:
        """http or https."""
        return "https" if self.tls_cert else "http"

    def url(self, port: int) -> str:
        """Where it is reached, on this machine."""
        host = HOST if self.host in ("", "0.0.0.0", "::") else self.host
        shown = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{shown}:{port}{self.path}"

    def tls(self) -> ssl.SSLContext | None:
        """The context of the certificate. Raises UsageError for one that cannot be used."""
        if self.tls_cert is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"the certificate {self.tls_cert} cannot be used: {error}") from None
        return context
