"""Where a webhook may go: hosts that the operator lists, and no private address but those. Pure.

hooks.example.com      this host          *.example.com   every host below it
127.0.0.1:9000         this address and port, though it is private
10.1.0.0/16            private addresses that listed hosts may have
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from agentflow.errors import UsageError

_URL: Final = re.compile(
    r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?(/[^\s#]*)?", re.ASCII
)


def split(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL. Raises UsageError for one that no webhook has."""
    found = _URL.fullmatch(url) if len(url) <= 2000 else None
    port = int(found[3] or (443 if found[1] == "https" else 80)) if found else 0
    if found is None or not 0 < port < 65_536:
        raise UsageError(f"{url[:80]!r} is no URL of a webhook, such as https://example.com/hook")
    return found[1], found[2].lower().strip("[]").rstrip("."), port


def check(url: str, listed: Iterable[str]) -> None:
    """Raise UsageError where a webhook may not go to this URL."""
    _, host, port = split(url)
    named = any(_fits(entry.lower(), host, port) for entry in listed)
    if not named:
        raise UsageError(
            f"webhooks may not go to {host}: AGENTFLOW_WEBHOOK_HOSTS lists where they may"
        )
    if (address := _address(host)) is not None and not address_allowed(host, listed, port):
        raise UsageError(f"webhooks may not go to {address}, which is private")


def address_allowed(text: str, listed: Iterable[str], port: int = 0) -> bool:
    """Whether a host may have this address: any public one, and the private ones listed."""
    address = _address(text)
    if address is None:
        return False
    if address.is_global and not address.is_multicast:
        return True
    return any(_covers(entry, address, port) for entry in listed)


def _fits(entry: str, host: str, port: int) -> bool:
    if "/" in entry:
        return False
    name, wanted = _name(entry)
    if wanted and wanted != port:
        return False
    if name.startswith("*."):
        return host.endswith(name[1:]) and _address(host) is None
    return host == name


def _covers(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bool:
    if "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted = _name(entry)
    return _address(name) == address and wanted in (0, port)


def _name(entry: str) -> tuple[str, int]:
    """Host and port of an entry; 0: any port."""
    if _address(entry) is not None:
        return entry, 0
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit():
        return host.strip("[]"), int(port)
    return entry.strip("[]"), 0


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
