"""A connection to Milvus: a server, or the directory of an embedded Milvus Lite. Every failure is an error of geofix's."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from geofix.errors import ConfigurationError, MismatchError, Overloaded, Reason, Unavailable
from geofix.gallery.calls import SearchChannel
from geofix.gallery.embedded import EmbeddedSearches
from geofix.gallery.handshake import tls_fault
from geofix.gallery.layout import GalleryInfo
from geofix.gallery.lite_workarounds import drop_cut_off_indexes, open_each_once

log = logging.getLogger("geofix.gallery")

CALL_TIMEOUT_S = 10.0
"""For calls on metadata and searches. Without one, pymilvus tries 75 times before it gives up."""
CONNECT_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S, LOAD_POLL_S = 600.0, 0.1
"""How long a collection may take to be in the memory of Milvus, and how often it is looked for there."""

_DISK_FULL = ("No space left on device", "Disk quota exceeded", "File too large", "disk quota exhausted")

_SCHEMES = ("http", "https", "tcp", "unix")


def is_server(uri: str) -> bool:
    """Whether a URI names a server rather than a Milvus Lite directory."""
    return urlsplit(uri).scheme in _SCHEMES


def redacted(uri: str) -> str:
    """The URI without user, password and query."""
    return re.sub(r"\?.*$", "", re.sub(r"//[^/@]*@", "//", uri)) if is_server(uri) else uri


def check_uri(uri: str) -> None:
    """Refuse what is neither a server's address nor an existing directory, so that a typo never makes a private empty database.

    Raises:
        ConfigurationError: naming the setting.
    """
    if not is_server(uri) and not Path(uri).is_dir():
        raise ConfigurationError(
            f"GEOFIX_MILVUS_URI: {redacted(uri)} is neither a server's address (http://host:19530, https://...) nor an "
            "existing Milvus Lite directory; `geofix up` makes such a directory and loads the gallery"
        )


class Store:
    """An open connection. Calls block; they are safe from several threads.

    Args:
        uri: a server's address, or a Milvus Lite directory, which is then owned by this process until `close`.
        token: the server's token or `user:password`.
        ca_file: certificates (PEM) that the server's is checked against, in place of the system's; makes the connection TLS.
        create: make the Milvus Lite directory if it is absent.

    Raises:
        Unavailable: GALLERY_UNAVAILABLE; the server cannot be reached, or the directory is open in another process.
        ConfigurationError: see `check_uri`; the server's certificate is not one of that authority, or one side speaks TLS alone.
    """

    def __init__(self, uri: str, token: str = "", *, ca_file: Path | None = None, create: bool = False) -> None:
        self.name = redacted(uri)
        self.embedded = not is_server(uri)
        self._lite: tuple[Any, Any] | None = None
        self._writing = threading.Lock()
        if not (create and self.embedded):
            check_uri(uri)
        from pymilvus import MilvusClient

        _quieten()  # after the import, which sets levels of its own

        tls = {} if ca_file is None or self.embedded else {"secure": True, "server_pem_path": str(ca_file)}
        try:
            address = self._open_lite(Path(uri)) if self.embedded else uri
            with self.errors():
                # Dedicated: a shared one could be a closed connection to an earlier server on the same port.
                self.client = MilvusClient(address, token=token, timeout=CONNECT_TIMEOUT_S, dedicated=True, **tls)
                version = "" if self.embedded else self.client.get_server_version(timeout=CALL_TIMEOUT_S)
            self.searches = (
                SearchChannel(address, token, ca_file)
                if self._lite is None
                else EmbeddedSearches(address, self._lite[1])
            )
            self.lite = self.embedded or version.startswith("milvus_lite")
            # PyPI's Milvus server, 2.3.5-lite, was measured with as many partitions as Milvus Lite has (benchmarks/retrieval.py).
            self.many_partitions = self.embedded or "lite" in version
        except Unavailable as error:
            self._close_lite()
            fault = None if self.embedded else tls_fault(uri, ca_file)
            raise (ConfigurationError(f"TLS to {self.name}: {fault}") if fault else error) from error
        except Exception:
            self._close_lite()
            raise

    def _open_lite(self, directory: Path) -> str:
        try:
            from milvus_lite.adapter.grpc.server import start_server_in_thread
            from milvus_lite.exceptions import DataDirLockedError, MilvusLiteError
        except ImportError as error:
            raise ConfigurationError(f"{directory} needs Milvus Lite: pip install 'geofix[up]'") from error
        try:
            server, database, port = start_server_in_thread(str(directory), "127.0.0.1", 0)
        except DataDirLockedError as error:
            raise Unavailable(
                f"the Milvus Lite directory {directory} is open in another process: stop that one (a `geofix up` keeps "
                "it open while it runs), or use another directory",
                Reason.GALLERY_UNAVAILABLE,
            ) from error
        except (MilvusLiteError, OSError, ValueError) as error:
            raise Unavailable(
                f"the Milvus Lite directory {directory} cannot be opened ({error}): delete it, and `geofix up` loads "
                "the gallery again",
                Reason.GALLERY_UNAVAILABLE,
            ) from error
        self._lite = (server, database)
        open_each_once(database)
        drop_cut_off_indexes(directory)
        return f"http://127.0.0.1:{port}"

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn pymilvus's and gRPC's exceptions into `Unavailable` with reason GALLERY_UNAVAILABLE."""
        import grpc
        from pymilvus import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError, OSError) as error:
            detail = error.message if isinstance(error, MilvusException) else type(error).__name__
            log.warning("Milvus at %s: %s", self.name, detail)
            if any(sign in detail for sign in _DISK_FULL):
                raise Overloaded(
                    f"the disk of the vector database at {self.name} is full: free some space, and go on where this stopped",
                    Reason.STORAGE_FULL,
                ) from error
            raise Unavailable(
                f"the vector database at {self.name} cannot be reached or refused the call",
                Reason.GALLERY_UNAVAILABLE,
            ) from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """As `errors`, one call at a time where Milvus Lite is embedded: two that write at once lose its log's file."""
        with self._writing if self.embedded else contextlib.nullcontext(), self.errors():
            yield

    def resolve(self, alias: str) -> str | None:
        """The collection that an alias names, or None where the alias does not exist."""
        with self.errors():
            if not self.client.has_collection(alias, timeout=CALL_TIMEOUT_S):
                return None
            return str(self.client.describe_alias(alias, timeout=CALL_TIMEOUT_S)["collection_name"])

    def describe(self, collection: str) -> GalleryInfo | None:
        """What a collection says about itself, or None where it does not exist.

        Raises:
            MismatchError: GALLERY_INVALID; it is not a gallery of ours.
        """
        with self.errors():
            if not self.client.has_collection(collection, timeout=CALL_TIMEOUT_S):
                return None
            found = self.client.describe_collection(collection, timeout=CALL_TIMEOUT_S)
        return GalleryInfo.from_properties(collection, found.get("properties") or {})

    def describe_or_none(self, collection: str) -> GalleryInfo | None:
        """As `describe`, but None also for what is not a gallery of ours."""
        try:
            return self.describe(collection)
        except MismatchError:
            return None

    def load(self, collection: str) -> None:
        """Bring a collection into the memory of Milvus; nothing happens if it is there.

        It is asked for again where Milvus lets it go before it is there: a server that is started again meanwhile knows nothing
        of the load, for whose end pymilvus alone would wait in vain.

        Raises:
            Unavailable: GALLERY_UNAVAILABLE; also where it is not there after `LOAD_TIMEOUT_S`.
        """
        from pymilvus.client.types import LoadState

        until = time.monotonic() + LOAD_TIMEOUT_S
        state = LoadState.NotLoad
        while state != LoadState.Loaded:
            with self.errors():
                if state != LoadState.Loading:
                    self.client.load_collection(collection, timeout=LOAD_TIMEOUT_S, _async=True)
                state = self._load_state(collection)
            if state != LoadState.Loaded:
                if time.monotonic() > until:
                    raise Unavailable(
                        f"the vector database at {self.name} did not load {collection} within {LOAD_TIMEOUT_S:.0f} s: look at "
                        "its memory and its log",
                        Reason.GALLERY_UNAVAILABLE,
                    )
                time.sleep(LOAD_POLL_S)

    def is_loaded(self, collection: str) -> bool:
        """Whether a collection is in the memory of Milvus; a server that was started again may have let it go."""
        from pymilvus.client.types import LoadState

        with self.errors():
            return bool(self._load_state(collection) == LoadState.Loaded)

    def _load_state(self, collection: str) -> Any:
        return self.client.get_load_state(collection, timeout=CALL_TIMEOUT_S)["state"]

    def count(self, collection: str, condition: str = "", partitions: Sequence[str] = ()) -> int:
        """Rows of a loaded collection (consistency Strong), or those of some partitions that fulfil a condition (Bounded)."""
        with self.errors():
            rows = self.client.query(
                collection,
                filter=condition,
                output_fields=["count(*)"],
                partition_names=list(partitions) or None,
                consistency_level="Bounded" if condition else "Strong",
                timeout=60.0,
            )
            return int(rows[0]["count(*)"])

    def close(self) -> None:
        """Close the connection, and an embedded database with it."""
        with contextlib.suppress(Exception):  # a connection that is broken already is closed enough
            self.client.close()
        self.searches.close()
        self._close_lite()

    def _close_lite(self) -> None:
        if self._lite is not None:
            server, database = self._lite
            self._lite = None
            server.stop(grace=2).wait()
            database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _quieten() -> None:
    """Silence pymilvus, which logs a traceback for every failed call that we answer for, and Milvus Lite with what it uses.

    The only synchronous gRPC server in a process of ours is Milvus Lite's; it logs each optional method that it lacks.
    """
    for name in ("pymilvus", "milvus_lite", "faiss", "grpc._server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
