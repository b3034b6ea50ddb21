"""Which gallery is live, and whether it belongs to the bundle. Knows nothing of gRPC; its calls block."""

from __future__ import annotations

import threading

from geofix.bundle import Bundle
from geofix.errors import ConfigurationError, GeofixError, MismatchError, NotFound, Reason, Unavailable
from geofix.gallery.layout import GalleryInfo
from geofix.gallery.search import Gallery
from geofix.gallery.store import Store


class LiveGallery:
    """Follows the alias of a bundle's gallery and hands out the versions that can be searched.

    A search keeps the version that it was given, so an alias that moves in between changes nothing for it.
    """

    def __init__(self, bundle: Bundle, uri: str, token: str) -> None:
        self._bundle = bundle
        self._uri = uri
        self._token = token
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._opened: dict[str, Gallery] = {}
        self._live: str | None = None

    def refresh(self) -> Gallery:
        """Look at the alias again; the live gallery.

        Raises:
            Unavailable: GALLERY_UNAVAILABLE; Milvus cannot be reached, or nothing is live.
            MismatchError: GALLERY_MISMATCH; the live gallery was built for another bundle. GALLERY_INVALID; it is none of ours.
        """
        with self._lock:
            try:
                self._live = None
                store = self._connect()
                alias = self._bundle.gallery_alias
                name = store.resolve(alias)
                if name is None:
                    raise Unavailable(
                        f"no gallery is live: {store.name} has no alias {alias}; load the bundle's gallery first "
                        "(`geofix up` does it)",
                        Reason.GALLERY_UNAVAILABLE,
                    )
                gallery = self._open(store, name)
                self._live = name
                return gallery
            except ConfigurationError as error:  # the directory was there when the process started
                raise Unavailable(error.message, Reason.GALLERY_UNAVAILABLE) from error

    def version(self, name: str) -> Gallery:
        """The gallery of a version, or with an empty name the live one, as last seen.

        Raises:
            NotFound: GALLERY_NOT_FOUND; no such version of this bundle's gallery.
            GeofixError: as `refresh`.
        """
        with self._lock:
            wanted = name or self._live
            if wanted is not None and (wanted == self._live or wanted in self._opened):
                return self._opened[wanted]
        if not name:
            return self.refresh()
        if not name.startswith(f"{self._bundle.gallery_alias}_"):
            raise _not_found(name)
        with self._lock:
            return self._open(self._connect(), name)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._live = None
            self._opened.clear()
            if self._store is not None:
                self._store.close()
                self._store = None

    def _connect(self) -> Store:
        if self._store is None:
            self._store = Store(self._uri, self._token)
        return self._store

    def _open(self, store: Store, name: str) -> Gallery:
        info = store.describe(name)
        if info is None:
            self._opened.pop(name, None)
            raise _not_found(name)
        self._check(info)
        known = self._opened.get(name)
        if known is not None and known.info == info:
            return known
        if known is None:
            store.load(name)
            counted = store.count(name)
            if counted != info.images:
                raise Unavailable(
                    f"{name} holds {counted} of {info.images} images: load the bundle's gallery again",
                    Reason.GALLERY_UNAVAILABLE,
                )
        gallery = self._opened[name] = Gallery(store, info)
        return gallery

    def _check(self, info: GalleryInfo) -> None:
        ours = self._bundle.version
        if info.model_version != ours or info.embedding_dim != self._bundle.manifest.embedding_dim:
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
