"""Why there is no connection, for the person who can mend it: what happened, and what to do."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from agentflow.config import Connect

START: Final = "start the local stack with `agentflow up`, or name a server with --nats"
LOOK: Final = "see that the server runs there, and that --nats or AGENTFLOW_NATS names it rightly"
URL: Final = "a server is named as nats://HOST:PORT or tls://HOST:PORT (--nats, AGENTFLOW_NATS)"
OWN_CERTIFICATE: Final = "give it with --tls-cert and --tls-key (AGENTFLOW_TLS_CERT, _KEY)"

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_CUT_OFF: Final = frozenset({errno.EPIPE, errno.ECONNRESET})
_UNTRUSTED: Final = (
    "it shows a certificate of an authority that is not trusted here",
    "name the authority's file with --tls-ca (AGENTFLOW_TLS_CA)",
)
_MISNAMED: Final = (
    "its certificate is made out to another host",
    "name the server as its certificate does, or have it made out to this name too",
)
_OF_CERTIFICATES: Final[Mapping[int, tuple[str, str]]] = {
    9: ("its certificate is not valid yet", "see the clocks of both machines"),
    10: (
        "its certificate has expired",
        "renew it at the server; or is this machine's clock wrong?",
    ),
    18: _UNTRUSTED,
    19: _UNTRUSTED,
    20: _UNTRUSTED,
    21: _UNTRUSTED,
    62: _MISNAMED,
    64: _MISNAMED,
}
"""By OpenSSL's number of what is wrong: X509_V_ERR_..."""


class Absence(NamedTuple):
    """What happened, and what to do about it."""

    text: str
    remedy: str


def absence(error: Exception, options: Connect, info: Mapping[str, Any]) -> Absence:
    """Why an attempt failed; `info` is the greeting of the server, empty where none came."""
    match error:
        case ssl.SSLCertVerificationError():
            known = _OF_CERTIFICATES.get(error.verify_code)
            if known is not None:
                return Absence(*known)
            return Absence(f"its certificate is not accepted: {error.verify_message}", LOOK)
        case socket.gaierror():
            return Absence(said(error), LOOK if _named(options) else URL)
        case ConnectionRefusedError():
            return Absence(said(error), look(options))
    text = said(error)
    ended = isinstance(error, OSError) or _cut_off(error)
    if ended and info.get("tls_verify") and not options.tls_cert:
        return Absence("it asks each client for a certificate", OWN_CERTIFICATE)
    if isinstance(error, ssl.SSLError):
        return Absence(
            f"TLS failed: {text}", "see that both sides have TLS, and certificates that fit"
        )
    if _cut_off(error):
        return Absence(
            "the server ended the connection at once",
            "its log says why: too many connections, or TLS that one side does not speak",
        )
    if isinstance(error, TimeoutError):
        return Absence(text or "no answer in time", silent(options))
    if "connect url" in text or not _named(options):
        return Absence(text, URL)
    return Absence(text, LOOK)


def silent(options: Connect) -> str:
    """What to do where somebody listens who does not greet as a NATS server does."""
    return f"is that the port of a NATS server, and is it alive? Else {look(options)}"


def nameless(options: Connect) -> bool:
    """Whether nothing was given that says who we are."""
    return not (options.user or options.creds or options.token or options.tls_cert) and not (
        _in_url(options)
    )


def _in_url(options: Connect) -> bool:
    return any("@" in urlsplit(url).netloc for url in options.urls if "://" in url)


def refused_entry(options: Connect) -> str:
    """What is to be corrected where the server does not let us in."""
    in_url = _in_url(options)
    if options.creds:
        return f"see whether {options.creds} is of this server and has not expired"
    if options.user and not options.password:
        return f"user {options.user} needs a password: set AGENTFLOW_PASSWORD"
    if options.user or in_url:
        return "correct user and password (--user and AGENTFLOW_PASSWORD, or those in the URL)"
    if options.tls_cert:
        return "it has no user for this certificate; --user, --creds and --context name another"
    return (
        "none were given: --user with AGENTFLOW_PASSWORD, --creds, or --context; for a local "
        "stack, --store DIR without --nats"
    )


def look(options: Connect) -> str:
    """What to do where nobody listens: a server of this machine can be started."""
    here = not options.urls or any(_host(url) in _LOOPBACK for url in options.urls)
    return START if here else LOOK


def _named(options: Connect) -> bool:
    """Whether each server is named in a way that this client knows."""
    return all(url.startswith(("nats://", "tls://")) for url in options.urls)


def said(error: Exception) -> str:
    """What went wrong, without the numbers of the operating system where they say less."""
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case socket.gaierror():
            return "the host's name is not known"
        case ssl.SSLCertVerificationError() if error.verify_code in _OF_CERTIFICATES:
            return _OF_CERTIFICATES[error.verify_code][0]
        case _:
            text = " ".join(str(error).split()).removeprefix("nats: ")
            return text or type(error).__name__


def _cut_off(error: Exception) -> bool:
    """Whether the server hung up, in any of the forms in which that is seen."""
    if isinstance(error, OSError) and error.errno in _CUT_OFF:
        return True
    text = said(error).lower()
    return "connection lost" in text or "unexpected eof" in text or "empty response" in text


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
