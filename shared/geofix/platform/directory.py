"""The directory that the platform keeps its data in, and the lock that gives it to one supervisor at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from geofix.bundle import Bundle
from geofix.platform.errors import PlatformError

ADMIN = "admin"
"""The file that holds the address of the gallery's administration while a platform runs."""


def default_data_dir() -> Path:
    """`$GEOFIX_DATA_DIR`, else `geofix` under `$XDG_DATA_HOME`, else `~/.local/share/geofix`."""
    named = os.environ.get("GEOFIX_DATA_DIR")
    if named:
        return Path(named)
    share = os.environ.get("XDG_DATA_HOME")
    return (Path(share) if share else Path.home() / ".local" / "share") / "geofix"


def running_admin(data_dir: Path) -> str | None:
    """Where the `geofix up` that holds a data directory serves the gallery's administration (host:port), or None without one."""
    try:
        return (data_dir / ADMIN).read_text().strip() or None
    except OSError:
        return None


class DataDirectory:
    """A data directory, held by this process from `acquire` to `release`.

    The lock is the kernel's (flock): it goes with the process however it dies, so there is no stale lock to remove.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = self.path / "lock"
        self._admin = self.path / ADMIN
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Make the directory if it is absent, and hold it.

        Raises:
            PlatformError: another process holds it, and which; or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "logs").mkdir(exist_ok=True)
            while self._file is None:
                self._file = self._try_to_lock()
        except OSError as error:
            raise PlatformError(
                f"the data directory {self.path} cannot be written ({error.strerror}): choose another with --data-dir"
            ) from error

    def _try_to_lock(self) -> IO[str] | None:
        file = self._lock.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise PlatformError(
                f"the data directory {self.path} is in use by another `geofix up`"
                + (f" (pid {holder})" if holder else "")
                + ": use that one, or stop it (Ctrl-C, or kill the pid), or choose another directory with --data-dir"
            ) from error
        if not self._lock.exists() or not os.path.samestat(os.fstat(file.fileno()), self._lock.stat()):
            file.close()  # its last holder removed the file between our two steps: this lock is on nothing
            return None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        return file

    def write_admin(self, address: str) -> None:
        """Say where the gallery's administration listens, for `geofix gallery` on this machine."""
        partial = self._admin.with_suffix(".partial")
        partial.write_text(address)
        partial.replace(self._admin)

    def release(self) -> None:
        """Let go of it."""
        if self._file is not None:
            self._admin.unlink(missing_ok=True)
            self._lock.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def take_clean(self, bundle: Bundle) -> bool:
        """Whether the last platform with this bundle's gallery ended cleanly; taken back, until this one does."""
        mark = self._clean(bundle)
        was = mark.exists() and self.milvus(bundle).exists()
        mark.unlink(missing_ok=True)
        return was

    def leave_clean(self, bundle: Bundle) -> None:
        """Say that the gallery was whole and has been closed: the next start need not look through it."""
        with contextlib.suppress(OSError):  # a full disk: the next start looks
            self._clean(bundle).touch()

    def _clean(self, bundle: Bundle) -> Path:
        return self.milvus(bundle).with_name("closed-cleanly")

    def log(self, name: str) -> Path:
        """The log file of a child."""
        return self.path / "logs" / f"{name}.log"

    def milvus(self, bundle: Bundle) -> Path:
        """The Milvus Lite directory of a bundle's version: kept, so that only the first start loads the gallery."""
        return self.path / bundle.version / "milvus.db"
