"""Certificates for tests: an authority, what it issues, and where services look for it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from geofix.tls import TlsFiles


class Authority:
    """An authority whose certificates name 127.0.0.1."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def files(self, directory: Path, *, ends_in: timedelta = timedelta(days=1), **more: bool) -> TlsFiles:
        """A new certificate, its key and the authority as files of a directory."""
        directory.mkdir(exist_ok=True)
        files = TlsFiles(directory / "cert.pem", directory / "key.pem", directory / "ca.pem", **more)
        self.issue(files, ends_in=ends_in)
        return files

    def issue(self, files: TlsFiles, *, ends_in: timedelta = timedelta(days=1), key: bool = True) -> None:
        """Put a new certificate in the place of the old one; its key too, unless the rotation is only half done."""
        assert files.cert
        assert files.key
        assert files.ca
        end = datetime.now(UTC) + ends_in
        issued = self._ca.issue_cert("127.0.0.1", "localhost", not_before=end - timedelta(days=2), not_after=end)
        replace(files.cert, b"".join(part.bytes() for part in issued.cert_chain_pems))
        replace(files.ca, self._ca.cert_pem.bytes())
        if key:
            self.last_key = issued.private_key_pem.bytes()
            replace(files.key, self.last_key)
        self.waiting_key = issued.private_key_pem.bytes()


def replace(path: Path, data: bytes) -> None:
    """Another file in the place of one, at once, as a Secret's are switched."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    os.replace(new, path)
