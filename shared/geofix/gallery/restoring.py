"""A version that a backup describes: its collections made, and once its rows are there, marked as it was.

Each step may be cut off at any point and done again.
"""

from __future__ import annotations

from dataclasses import replace

from geofix.bundle import Bundle
from geofix.errors import InvalidInput, MismatchError, Reason
from geofix.gallery.layout import MOST_PARTITIONS, GalleryInfo, State, is_version
from geofix.gallery.promotion import checked_calibration
from geofix.gallery.store import Store
from geofix.gallery.version_collections import make, mark

RESTORE_JOB = "restore"
"""The run of `add` that a version is restored by."""


def restore(store: Store, bundle: Bundle, wanted: GalleryInfo) -> GalleryInfo:
    """See `GalleryVersions.restore`."""
    _check(bundle, wanted)
    found = store.describe_or_none(wanted.name)
    if found is None or (found.state is State.FILLING and [name for name, _ in found.adds] == [RESTORE_JOB]):
        empty = replace(wanted, state=State.FILLING, images=0, set_aside=0, cells=0, digest="", set_aside_digest="")
        make(store, replace(empty, joined=False, retired="", filled=0, adds=((RESTORE_JOB, False),)))
    elif found.state is State.VERIFIED and _content(found) == _content(wanted):
        mark(store, wanted.name, joined=int(wanted.joined))
    else:
        raise InvalidInput(
            f"there is a gallery version {wanted.name} that holds something else: delete it first, if it is not needed",
            Reason.GALLERY_EXISTS,
            {"gallery_version": wanted.name},
        )
    restored = store.describe_or_none(wanted.name)
    assert restored is not None
    return restored


def _content(info: GalleryInfo) -> tuple[int, int, int, int]:
    """Counts and digests; one of nothing may be written as none or as zeros."""
    return info.images, info.set_aside, int(info.digest or "0", 16), int(info.set_aside_digest or "0", 16)


def _check(bundle: Bundle, wanted: GalleryInfo) -> None:
    manifest = bundle.manifest
    if wanted.model_version != bundle.version:
        raise MismatchError(
            f"the gallery {wanted.name} was built for {wanted.model_version}, this is {bundle.version}: name that bundle",
            Reason.GALLERY_MISMATCH,
            {"model_version": bundle.version, "gallery_model_version": wanted.model_version},
        )
    possible = (
        is_version(wanted.name, bundle.gallery_alias)
        and wanted.state is State.VERIFIED
        and wanted.embedding_dim == manifest.embedding_dim
        and wanted.feature_dim in (0, manifest.feature_dim)
        and 1 <= wanted.partitions <= MOST_PARTITIONS + 1  # what backups made before it was 1,023 may say
        and min(wanted.images, wanted.set_aside) >= 0
    )
    if not possible:
        raise MismatchError(
            f"{wanted.name} is not described as a verified version of the gallery of {bundle.version}",
            Reason.GALLERY_INVALID,
            {"gallery_version": wanted.name},
        )
    checked_calibration(bundle, wanted.calibration)
