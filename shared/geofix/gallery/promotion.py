"""How a gallery version becomes the live one: the images set aside join the others, then the alias switches.

It may be cut off at any point and done again: what says how far it has come is written after what it says.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError

from geofix.bundle import Bundle
from geofix.calibration import Calibration
from geofix.errors import MismatchError, Reason
from geofix.gallery.contents import Contents
from geofix.gallery.layout import State
from geofix.gallery.store import Store
from geofix.gallery.version_collections import flush, mark, now, point

JOIN_ROWS = 1000


def promote(store: Store, bundle: Bundle, contents: Contents, calibration: str) -> None:
    """See `GalleryVersions.promote`."""
    info = contents.info
    if info.state is State.FILLING:
        raise unfinished(info.name, "it is not verified: `geofix gallery verify` says what is missing")
    if not info.joined:
        fitted = checked_calibration(bundle, calibration) if info.state is State.VERIFIED else info.calibration
        _join(store, contents, fitted)
    elif contents.count() != info.images:
        raise unfinished(info.name, "it has lost images since it was verified: build it again")
    live = store.resolve(bundle.gallery_alias)
    if live != info.name:
        mark(store, info.name, previous=live or info.previous, promoted=now())
        _switch(store, bundle, info.name, live)


def rollback(store: Store, bundle: Bundle, live: str, contents: Contents) -> None:
    """Make a version that was live before `live` the live one again.

    Raises:
        MismatchError: GALLERY_UNFINISHED; it lost rows.
    """
    info = contents.info
    if contents.count() != info.images:
        raise unfinished(info.name, "it has lost images since it was live")
    mark(store, info.name, promoted=now())
    _switch(store, bundle, info.name, live)


def unfinished(name: str, what: str) -> MismatchError:
    """A version that is not what it has to be before it may go on."""
    return MismatchError(f"{name}: {what}", Reason.GALLERY_UNFINISHED, {"gallery_version": name})


def _join(store: Store, contents: Contents, calibration: str) -> None:
    info = contents.info
    if info.state is State.VERIFIED:
        # More of the others may be there: of a join that was cut off together with what said that it had begun.
        if contents.count() < info.images or contents.count(set_aside=True) != info.set_aside:
            raise unfinished(info.name, "it has lost images since it was verified: verify it again")
        mark(store, info.name, calibration=calibration)
        mark(store, info.name, state=State.JOINING)
    after, rows = "", []
    while info.set_aside and (page := contents.read(set_aside=True, after=after, limit=JOIN_ROWS)):
        rows += [replace(read.row, feature=None) for read in page]
        after = page[-1].row.id
    contents.insert(rows)
    total = info.images + info.set_aside
    flush(store, info.name)
    if contents.count() != total:
        raise unfinished(info.name, f"it holds {contents.count()} of {total} images: build it again")
    digest = f"{int(info.digest or '0', 16) ^ int(info.set_aside_digest or '0', 16):016x}"
    mark(store, info.name, images=total, digest=digest, joined=1, state=State.VERIFIED)


def checked_calibration(bundle: Bundle, calibration: str) -> str:
    """The JSON of a calibration, empty for none.

    Raises:
        MismatchError: GALLERY_INVALID; it is none, or of another decision rule than the bundle's.
    """
    if not calibration:
        return ""
    try:
        rule = Calibration.model_validate_json(calibration).rule
    except ValidationError as error:
        raise MismatchError(f"that is no calibration: {error.errors()[0]['msg']}", Reason.GALLERY_INVALID) from error
    if rule != bundle.manifest.decision:
        raise MismatchError(
            f"the calibration was fitted for another decision rule than that of {bundle.version}",
            Reason.GALLERY_INVALID,
        )
    return calibration


def _switch(store: Store, bundle: Bundle, name: str, live: str | None) -> None:
    store.load(name)
    # No version that may still be asked for is ever without the time that keeps it until it is drained, whatever is cut off here;
    # of the live one the time means nothing.
    if live is not None and store.describe_or_none(live) is not None:
        mark(store, live, retired=now())
    point(store, bundle.gallery_alias, name)
    mark(store, name, retired="")
