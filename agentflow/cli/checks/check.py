"""One finding of the doctor."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Status(StrEnum):
    """How it is, from well to ill."""

    OK = "OK"
    UNKNOWN = "UNKNOWN"
    WARN = "WARN"
    FAIL = "FAIL"


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was looked at, how it is, a sentence, and what to do where it is not well."""

    name: str
    status: Status
    text: str
    remedy: str = ""


def worst(checks: list[Check]) -> Status:
    """The worst status among them."""
    order = list(Status)
    return max((check.status for check in checks), key=order.index, default=Status.OK)
