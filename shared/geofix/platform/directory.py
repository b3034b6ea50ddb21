"""The directory that the platform keeps its data in, and the lock that gives it to one supervisor at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from geofix.bundle import Bundle
from geofix.platform.errors import PlatformError

_LOCK = "lock"


def default_data_dir() -> Path:
    """`$GEOFIX_DATA_DIR`, else `geofix` under `$XDG_DATA_HOME`, else `~/.local/share/geofix`."""
    named = os.environ.get("GEOFIX_DATA_DIR")
    if named:
        return Path(named)
    share = os.environ.get("XDG_DATA_HOME")
    return (Path(share) if share else Path.home() / ".local" / "share") / "geofix"


class DataDirectory:
    """A data directory, held by this process from `acquire` to `release`.

    The lock is the kernel's (flock): it goes with the process however it dies, so there is no stale lock to remove.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Make the directory if it is absent, and hold it.

        Raises:
            PlatformError: another process holds it, and which; or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "logs").mkdir(exist_ok=True)
            file = (self.path / _LOCK).open("a+")
        except OSError as error:
            raise PlatformError(
                f"the data directory {self.path} cannot be written ({error.strerror}): choose another with --data-dir"
            ) from error
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
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let go of it."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def log(self, name: str) -> Path:
        """The log file of a child."""
        return self.path / "logs" / f"{name}.log"

    def milvus(self, bundle: Bundle) -> Path:
        """The Milvus Lite directory of a bundle's version: kept, so that only the first start loads the gallery."""
        return self.path / bundle.version / "milvus.db"
