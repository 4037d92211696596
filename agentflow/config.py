"""Where to connect and as whom: options, environment, and contexts of the nats CLI.

Precedence: command line, environment (`AGENTFLOW_*`), the context, the local stack, the default
URL. No file of ours is read; a context file is the nats CLI's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agentflow.errors import UsageError

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
INBOX: Final = "_INBOX"
"""Where answers arrive, unless the server gives each role a prefix of its own."""

# No blank, no wildcard, no empty token: the server would end the connection.
_PREFIX: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")


SECRETS: Final = (
    *("AGENTFLOW_PASSWORD", "AGENTFLOW_TOKEN"),
    *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
)
"""Variables that may be given as files too: `NAME_FILE` names the file that has the value."""
_SECRET_BYTES: Final = 65_536


def secret(name: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """A secret from its variable, or from the file that `NAME_FILE` names, without the line's end.

    Raises UsageError where both are set, or the file gives nothing.
    """
    value, file = environ.get(name), environ.get(f"{name}_FILE")
    if not file:
        return value
    if value:
        raise UsageError(f"{name} and {name}_FILE are both set; unset one of them")
    try:
        with open(file, "rb") as opened:
            found = opened.read(_SECRET_BYTES).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"{name}_FILE: {file} cannot be read: {reason}") from None
    if not found.strip():
        raise UsageError(f"{name}_FILE: {file} is empty")
    return found


def read_secret_files(environ: MutableMapping[str, str]) -> None:
    """Set each secret that is given as a file, for whatever reads the variable. Raises as `secret`.

    Child processes inherit the values, and not the names of the files.
    """
    for name in SECRETS:
        if environ.get(f"{name}_FILE"):
            environ[name] = secret(name, environ) or ""
            del environ[f"{name}_FILE"]


class Connect(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach NATS. `urls` are tried in turn; empty means the local stack."""

    urls: tuple[str, ...] = ()
    creds: str | None = None
    user: str | None = None
    password: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_first: bool = False
    """Whether the handshake comes before the server says anything."""
    token: str | None = None
    inbox_prefix: str = INBOX

    @property
    def wants_tls(self) -> bool:
        """Whether nothing may be sent without TLS: whoever names any part of it wants it."""
        named = self.tls_ca or self.tls_cert or self.tls_first
        return bool(named) or any(url.strip().lower().startswith("tls://") for url in self.urls)

    @property
    def shown(self) -> str:
        """The servers as a person may see them: without user names and passwords."""
        return ", ".join(_without_secret(url) for url in self.urls or (DEFAULT_URL,))


def _without_secret(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url.rpartition("@")[2]


class _Context(msgspec.Struct):
    url: str = ""
    creds: str = ""
    user: str = ""
    password: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    tls_first: bool = False
    token: str = ""
    inbox_prefix: str = ""
    # Not honoured, and so refused: without them we would connect elsewhere, or as somebody else.
    nkey: str = ""
    user_jwt: str = ""
    user_seed: str = ""
    nsc: str = ""
    jetstream_domain: str = ""
    jetstream_api_prefix: str = ""
    socks_proxy: str = ""

    def foreign(self) -> list[str]:
        """Fields with a value that this program has no way to honour."""
        names = ("nkey", "user_jwt", "user_seed", "nsc", "jetstream_domain")
        more = ("jetstream_api_prefix", "socks_proxy")
        return [name for name in (*names, *more) if getattr(self, name)]


def context_file(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """File in which the nats CLI keeps a context."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")) / ".config")
    return Path(home).expanduser() / "nats" / "context" / f"{name}.json"


def from_context(name: str, environ: Mapping[str, str] = os.environ) -> Connect:
    """The options in a context of the nats CLI. Raises UsageError where there is none."""
    path = context_file(name, environ)
    try:
        context = msgspec.json.decode(path.read_bytes(), type=_Context)
    except FileNotFoundError:
        raise UsageError(f"there is no context {name!r} of the nats CLI ({path})") from None
    except (msgspec.DecodeError, OSError) as error:
        raise UsageError(f"the context {path} cannot be read: {error}") from None
    if foreign := context.foreign():
        raise UsageError(
            f"the context {path} has {', '.join(foreign)}, which agentflow does not know how to "
            "use; make a context without, or name the server with --nats and --creds"
        )
    return Connect(
        urls=split_urls(context.url or DEFAULT_URL),
        creds=context.creds or None,
        user=context.user or None,
        password=context.password or None,
        tls_ca=context.ca or None,
        tls_cert=context.cert or None,
        tls_key=context.key or None,
        tls_first=context.tls_first,
        token=context.token or None,
        inbox_prefix=context.inbox_prefix or INBOX,
    )


def split_urls(text: str) -> tuple[str, ...]:
    """Server URLs separated by commas; a bare host gets the scheme nats.

    Raises UsageError for what is none, without the user names and passwords in it.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    urls = tuple(part if "://" in part else f"nats://{part}" for part in parts)
    for url in urls:
        _check_url(url)
    return urls


_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _check_url(url: str) -> None:
    try:
        address = urlsplit(url)
    except ValueError:
        return  # a bracket that is not closed: who connects says so, and quotes nothing of it
    # What stands before a / or # that is not encoded would be taken for the host.
    split = "@" in address.path + address.query + address.fragment
    bad = split or not address.hostname or _BAD_ESCAPE.search(address.netloc) is not None
    try:
        bad = bad or address.port == 0
    except ValueError:
        # A number that is no port is one that was mistyped: whoever connects says so.
        bad = bad or "@" in url or re.fullmatch(r".*:\d+", address.netloc) is None
    if bad:
        # Nothing of it is shown: what looks like a host or a port may be a part of a password.
        raise UsageError(
            "the URL of a NATS server is not understood; it looks like nats://USER:PASSWORD@HOST:"
            "PORT, where what is special in a user name, password or token is percent-encoded "
            "(%25 for %, %2F for /, %23 for #, %2C for a comma, %40 for @)"
        )


def connect_options(
    *,
    nats: str | None = None,
    creds: str | None = None,
    user: str | None = None,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    inbox_prefix: str | None = None,
    context: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Connect:
    """Options from the command line, completed from environment and context.

    Password and token come from AGENTFLOW_PASSWORD and AGENTFLOW_TOKEN only: a command line is
    visible to all users.
    """
    name = context or environ.get("AGENTFLOW_CONTEXT")
    defaults = from_context(name, environ) if name else Connect()
    url = nats or environ.get("AGENTFLOW_NATS")
    changes = {
        "urls": split_urls(url) if url else None,
        "creds": creds or environ.get("AGENTFLOW_CREDS"),
        "user": user or environ.get("AGENTFLOW_USER"),
        "password": secret("AGENTFLOW_PASSWORD", environ),
        "tls_ca": tls_ca or environ.get("AGENTFLOW_TLS_CA"),
        "tls_cert": tls_cert or environ.get("AGENTFLOW_TLS_CERT"),
        "tls_key": tls_key or environ.get("AGENTFLOW_TLS_KEY"),
        "tls_first": environ.get("AGENTFLOW_TLS_FIRST", "") not in ("", "0"),
        "token": secret("AGENTFLOW_TOKEN", environ),
        "inbox_prefix": inbox_prefix or environ.get("AGENTFLOW_INBOX_PREFIX"),
    }
    overrides = {key: value for key, value in changes.items() if value}
    options = msgspec.structs.replace(defaults, **overrides)
    for path in (options.creds, options.tls_ca, options.tls_cert, options.tls_key):
        if path and not Path(path).expanduser().is_file():
            raise UsageError(f"there is no file {path}")
    if _PREFIX.fullmatch(options.inbox_prefix) is None:
        raise UsageError(
            f"inbox prefix {options.inbox_prefix[:80]!r} is not a subject such as _INBOX.worker"
        )
    return options


def connection_environment(options: Connect) -> dict[str, str]:
    """How child processes learn what this one was told on its command line; not the servers."""
    variables = {
        "AGENTFLOW_CREDS": options.creds,
        "AGENTFLOW_USER": options.user,
        "AGENTFLOW_PASSWORD": options.password,
        "AGENTFLOW_TLS_CA": options.tls_ca,
        "AGENTFLOW_TLS_CERT": options.tls_cert,
        "AGENTFLOW_TLS_KEY": options.tls_key,
        "AGENTFLOW_TLS_FIRST": "1" if options.tls_first else None,
        "AGENTFLOW_TOKEN": options.token,
        "AGENTFLOW_INBOX_PREFIX": options.inbox_prefix,
    }
    return {name: value for name, value in variables.items() if value}


DEFAULT_STORE: Final = "~/.local/share/agentflow/default"
SIMULATED_STORE: Final = "~/.local/share/agentflow/simulated"


def store_dir(
    given: str | None = None, *, simulate: bool = False, environ: Mapping[str, str] = os.environ
) -> Path:
    """Directory of a local stack's data: --store, AGENTFLOW_STORE, or the user's own.

    A simulated stack has its own default, so that no simulated answer is ever found in the log of
    a real task.
    """
    default = SIMULATED_STORE if simulate else DEFAULT_STORE
    return Path(given or environ.get("AGENTFLOW_STORE") or default).expanduser()


PASSWORD_FILE: Final = "password"
"""In a store: what its server asks for. Readable by its owner alone, as the store is."""


class _Stack(msgspec.Struct):
    url: str
    owner_pid: int
    user: str | None = None


def local_url(store: str | None = None, environ: Mapping[str, str] = os.environ) -> str | None:
    """URL of the local stack that runs on a store now, None when none does."""
    found = local_stack(store, environ)
    return found.urls[0] if found else None


def local_stack(
    store: str | None = None, environ: Mapping[str, str] = os.environ
) -> Connect | None:
    """The local stack that runs on a store now and how to enter it, None when none runs.

    Without a store the user's own are looked at, the simulated one last. Reads what local/store.py
    writes; the client stands below it and must find the stack too.
    """
    found = _running_at(store_dir(store, environ=environ))
    if found is None and not (store or environ.get("AGENTFLOW_STORE")):
        found = _running_at(store_dir(simulate=True, environ=environ))
    return found


def entered(url: str, user: str | None, folder: Path) -> Connect:
    """How to enter the server of a store; `user` is None where it asks for no password.

    Raises UsageError where the password is not there to be read.
    """
    if user is None:
        return Connect(urls=(url,))
    path = folder / PASSWORD_FILE
    try:
        return Connect(urls=(url,), user=user, password=path.read_text().strip())
    except OSError as error:
        raise UsageError(
            f"the stack at {url} asks for the password in {path}, which cannot be read: "
            f"{error.strerror}"
        ) from None


def _running_at(folder: Path) -> Connect | None:
    import fcntl

    owner = b""
    try:
        with (folder / "owner.lock").open("rb") as lock:
            owner = lock.read(32).strip()
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        # Locked: its owner lives. A state of another owner was left by a crash.
        try:
            stack = msgspec.json.decode((folder / "stack.json").read_bytes(), type=_Stack)
        except (OSError, msgspec.MsgspecError):
            return None
        if owner != b"%d" % stack.owner_pid:
            return None
        return entered(stack.url, stack.user, folder)
    except OSError:
        return None
    return None


def located(options: Connect, store: str | None = None) -> Connect:
    """`options` with the servers filled in: those given, else the local stack, else the default.

    The local stack's own password comes before one that was meant for a server elsewhere, and is
    found where its URL was given alone. Raises UsageError.
    """
    if options.urls and (options.user or options.creds or options.token):
        return options
    local = local_stack(store)
    if local is None or options.urls not in ((), local.urls):
        return msgspec.structs.replace(options, urls=options.urls or (DEFAULT_URL,))
    if local.user is None:
        return msgspec.structs.replace(options, urls=local.urls)
    return msgspec.structs.replace(
        options, urls=local.urls, user=local.user, password=local.password, creds=None, token=None
    )
