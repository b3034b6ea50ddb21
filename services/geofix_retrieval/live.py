"""Which gallery is live, and whether it belongs to the bundle. Knows nothing of gRPC; its calls block."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import numpy as np

from geofix.bundle import Bundle
from geofix.errors import ConfigurationError, GeofixError, MismatchError, NotFound, Reason, Unavailable
from geofix.gallery.contents import Contents
from geofix.gallery.layout import GalleryInfo, State
from geofix.gallery.search import Gallery
from geofix.gallery.settings import MilvusSettings
from geofix.gallery.store import Store

log = logging.getLogger("geofix.gallery")

KEPT_S = 3600.0
"""A connection whose credentials were replaced stays so long: a promotion that has begun ends on it."""


class LiveGallery:
    """Follows the alias of a bundle's gallery and hands out the versions that can be searched.

    A search keeps the version that it was given, so an alias that moves in between changes nothing for it.

    Raises:
        ConfigurationError: a file with Milvus' credentials cannot be read.
    """

    def __init__(self, bundle: Bundle, settings: MilvusSettings) -> None:
        self.bundle = bundle
        self._settings = settings
        self._credentials = settings.watched_credentials()
        self._connected_with = self._credentials.get()
        self._refused: tuple[str, bytes] | None = None
        self._replaced: list[tuple[float, Store]] = []
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._opened: dict[str, Gallery] = {}
        self._live: str | None = None

    @property
    def live_version(self) -> str:
        """The live gallery's version as last seen; empty while nothing is live."""
        return self._live or ""

    def refresh(self) -> Gallery:
        """Look at the alias again; the live gallery.

        Raises:
            Unavailable: GALLERY_UNAVAILABLE; Milvus cannot be reached, or nothing is live.
            MismatchError: GALLERY_MISMATCH; the live gallery was built for another bundle. GALLERY_INVALID; it is none of ours.
        """
        with self._lock:
            try:
                store = self._connect()
                alias = self.bundle.gallery_alias
                name = store.resolve(alias)
                if name is None:
                    raise Unavailable(
                        f"no gallery is live: {store.name} has no alias {alias}; load the bundle's gallery first "
                        "(`geofix up` does it)",
                        Reason.GALLERY_UNAVAILABLE,
                    )
                gallery = self._open(store, name)
                self._live = name
                self._forget_dropped(store)
                return gallery
            except ConfigurationError as error:  # the directory was there when the process started
                self._live = None
                raise Unavailable(error.message, Reason.GALLERY_UNAVAILABLE) from error
            except GeofixError:
                self._live = None
                raise

    def opened(self, name: str) -> Gallery | None:
        """As `version`, but None where Milvus would have to be asked; never waits."""
        # Without the lock: a search must not wait for a look at the alias that takes its time.
        return self._opened.get(name or self._live or "")

    def version(self, name: str) -> Gallery:
        """The gallery of a version, or with an empty name the live one, as last seen.

        Raises:
            NotFound: GALLERY_NOT_FOUND; no such version of this bundle's gallery.
            GeofixError: as `refresh`.
        """
        known = self.opened(name)
        if known is not None:
            return known
        if not name:
            return self.refresh()
        if not name.startswith(f"{self.bundle.gallery_alias}_"):
            raise _not_found(name)
        with self._lock:
            return self._open(self._connect(), name)

    def connect(self) -> Store:
        """The open connection to Milvus.

        Raises:
            Unavailable: GALLERY_UNAVAILABLE; Milvus cannot be reached.
        """
        with self._lock:
            return self._connect()

    async def close_replaced(self, least_s: float = KEPT_S) -> None:
        """Close connections that others took the place of `least_s` ago or earlier; in the event loop of the searches."""
        now = time.monotonic()
        while self._replaced and now - self._replaced[0][0] >= least_s:
            _, store = self._replaced.pop(0)
            await store.searches.close_async()
            await asyncio.to_thread(store.close)

    async def close_searches(self) -> None:
        """Close what `Gallery.search_batch` uses, in the event loop that it belongs to."""
        await self.close_replaced(0.0)
        if self._store is not None:
            await self._store.searches.close_async()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._live = None
            self._opened.clear()
            if self._store is not None:
                self._store.close()
                self._store = None

    def _forget_dropped(self, store: Store) -> None:
        for name in [name for name in self._opened if name != self._live]:
            if store.describe_or_none(name) is None or not store.is_loaded(name):
                del self._opened[name]

    def _connect(self) -> Store:
        wanted = self._credentials.get()
        if self._store is None:
            self._store = self._settings.open_milvus()
            self._connected_with = wanted
        elif wanted != self._connected_with and not self._store.embedded:  # an embedded one asks for none
            self._reconnect(self._store, wanted)
        return self._store

    def _reconnect(self, old: Store, credentials: tuple[str, bytes]) -> None:
        """A connection with other credentials, once they are good: Milvus may learn of them later than the file."""
        try:
            self._store = self._settings.open_milvus()
        except GeofixError as error:
            if credentials != self._refused:
                self._refused = credentials
                log.warning("the new credentials are not taken yet, those before are kept: %s", error.message)
            return
        log.info("connected to %s with new credentials", old.name)
        self._connected_with = credentials
        self._opened.clear()
        self._replaced.append((time.monotonic(), old))

    def _open(self, store: Store, name: str) -> Gallery:
        info = store.describe(name)
        if info is None:
            self._opened.pop(name, None)
            raise _not_found(name)
        self._check(info)
        known = self._opened.get(name)
        if known is not None and known.info == info and store.is_loaded(name):
            return known
        if info.state is not State.VERIFIED:
            raise Unavailable(
                f"{name} is {info.state}: it can be searched when it is verified", Reason.GALLERY_UNAVAILABLE
            )
        for collection in Contents(store, info).collections:
            store.load(collection)
        counted = store.count(name)
        if counted != info.images:
            raise Unavailable(
                f"{name} holds {counted} of {info.images} images: load the bundle's gallery again",
                Reason.GALLERY_UNAVAILABLE,
            )
        gallery = Gallery(store, info)
        if store.embedded:
            # Milvus Lite builds what it searches with at the first search; better here than in the first request.
            gallery.search(np.eye(1, info.embedding_dim, dtype=np.float32)[0], (), 1)
        self._opened[name] = gallery
        return gallery

    def _check(self, info: GalleryInfo) -> None:
        ours = self.bundle.version
        if info.model_version != ours or info.embedding_dim != self.bundle.manifest.embedding_dim:
            self._opened.pop(info.name, None)
            raise MismatchError(
                f"the gallery {info.name} was built for {info.model_version}, this service serves {ours}: load the gallery "
                "of this bundle, or serve the other one",
                Reason.GALLERY_MISMATCH,
                {"model_version": ours, "gallery_model_version": info.model_version},
            )


def _not_found(name: str) -> GeofixError:
    return NotFound(
        f"gallery {name} does not exist; GetGalleryInfo names the live one",
        Reason.GALLERY_NOT_FOUND,
        {"gallery_version": name},
    )
