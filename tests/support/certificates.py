"""Certificates of an authority of the test's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Certificate(NamedTuple):
    """Its two files."""

    pem: Path
    key: Path


class Authority:
    """Signs certificates; `pem` is what a client trusts."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl makes the certificates, and is not installed")
        self._folder = folder
        self.pem, self._key = folder / "ca.pem", folder / "ca.key"
        self._openssl(
            "req", "-x509", *KEY, "-subj", "/CN=ca", "-keyout", self._key, "-out", self.pem
        )

    def certificate(
        self, name: str, *, to: str = "DNS:localhost,IP:127.0.0.1", days: int = 1
    ) -> Certificate:
        """A certificate made out to hosts; with days below zero it has expired."""
        pem, key, request = (self._folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        self._openssl("req", *KEY, "-subj", "/CN=localhost", "-keyout", key, "-out", request)
        (self._folder / "hosts").write_text(f"subjectAltName={to}")
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.pem, "-CAkey", self._key),
            *("-CAcreateserial", "-days", days, "-extfile", self._folder / "hosts", "-out", pem),
        )
        return Certificate(pem, key)

    def _openssl(self, *arguments: object) -> None:
        command = ["openssl", *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
