"""The life of a gallery version: created, filled, verified, promoted, retired, deleted.

Every step may be cut off at any point and done again: what says how far a version has come is written after what it says, and a
version is live by one switch of the alias. A version that was live never changes again, so its name stands for one content.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from geofix.bundle import Bundle
from geofix.errors import InvalidInput, MismatchError, NotFound, Reason
from geofix.gallery import promotion, restoring
from geofix.gallery.contents import Contents
from geofix.gallery.layout import LABEL, GalleryInfo, State, is_version, partition_count
from geofix.gallery.promotion import unfinished
from geofix.gallery.rows import ImageRow, set_aside_share
from geofix.gallery.store import CALL_TIMEOUT_S, Store
from geofix.gallery.version_collections import drop, flush, make, mark, now

DRAIN_S = 75.0
"""A version that was live until so few seconds ago may still be asked for: by gateways that have not looked since (2 s), in
requests of up to 60 s."""
OWN_JOB = "bundle"
"""The run of `add` that loads a bundle's own gallery."""


@dataclass(frozen=True)
class Summary:
    """What a verification has counted.

    That is: images that can be searched, images set aside, cells that hold one of either, and the digests of both kinds (the
    exclusive or of their rows', 16 hex digits).
    """

    images: int
    set_aside: int
    cells: int
    digest: str
    set_aside_digest: str


class GalleryVersions:
    """The versions of one bundle's gallery in an open Milvus.

    Every method raises Unavailable (GALLERY_UNAVAILABLE) where Milvus does not answer, NotFound (GALLERY_NOT_FOUND) for a version
    that does not exist, and MismatchError (GALLERY_MISMATCH) for one that was built with another bundle.
    """

    def __init__(self, store: Store, bundle: Bundle) -> None:
        self.store = store
        self._bundle = bundle
        self._alias = bundle.gallery_alias

    def live(self) -> str | None:
        """The live version's name, or None."""
        return self.store.resolve(self._alias)

    def all(self) -> list[GalleryInfo]:
        """All versions of this bundle's gallery, of whatever version of the bundle, oldest first."""
        with self.store.errors():
            names = self.store.client.list_collections(timeout=CALL_TIMEOUT_S)
        found = [self.store.describe_or_none(name) for name in names if is_version(name, self._alias)]
        ours = [info for info in found if info is not None and info.model_version.startswith(f"{self._name}@")]
        return sorted(ours, key=lambda info: (info.created, info.name))

    def get(self, name: str) -> GalleryInfo:
        """What a version says about itself."""
        info = self.store.describe(name) if is_version(name, self._alias) else None
        if info is None:
            raise NotFound(
                f"gallery version {name} does not exist; `geofix gallery list` names those that do",
                Reason.GALLERY_NOT_FOUND,
                {"gallery_version": name},
            )
        if info.model_version != self._bundle.version:
            raise MismatchError(
                f"the gallery {name} was built for {info.model_version}, this is {self._bundle.version}: use that bundle, or "
                "build a version for this one",
                Reason.GALLERY_MISMATCH,
                {"model_version": self._bundle.version, "gallery_model_version": info.model_version},
            )
        return info

    def create(self, label: str, expected_images: int, *, thumbnails: bool = False) -> GalleryInfo:
        """An empty version `gallery_<bundle>_<label>_<8 hex digits>`. Where one of that label is being filled, it is that one.

        Without a label it is the version of the bundle's own gallery: verified if it is whole, else ready for the run `OWN_JOB`
        of `add`, with what it holds.

        Raises:
            InvalidInput: the label cannot be part of a name; GALLERY_EXISTS: a complete version has it.
        """
        if not label:
            return self._own(expected_images)
        if not re.match(LABEL, label) or "__" in label:
            raise InvalidInput(
                f"{label!r} cannot name a gallery version: use a to z, 0 to 9 and single underscores, at most 64",
                metadata={"option": "label"},
            )
        pattern = re.compile(f"{re.escape(self._alias)}_{re.escape(label)}_[0-9a-f]{{8}}")
        for info in self.all():
            if not pattern.fullmatch(info.name):
                continue
            if info.state is not State.FILLING or info.model_version != self._bundle.version:
                raise InvalidInput(
                    f"there is a gallery version {info.name}: choose another label, or delete that one first",
                    Reason.GALLERY_EXISTS,
                    {"gallery_version": info.name},
                )
            return make(self.store, info)
        share = set_aside_share(expected_images)
        feature_dim = self._bundle.manifest.feature_dim
        name = f"{self._alias}_{label}_{secrets.token_hex(4)}"
        return make(self.store, self._empty(name, expected_images, thumbnails, share, feature_dim))

    def begin_add(self, name: str, job: str) -> GalleryInfo:
        """Note that a run of `add` works on a version; until it finishes, the version cannot be verified.

        Raises:
            MismatchError: GALLERY_IN_USE; the version is or was live, so it never changes again.
        """
        info = self.get(name)
        if info.promoted or info.state is State.JOINING:
            raise MismatchError(
                f"{name} {'is being promoted' if not info.promoted else 'was promoted'}, and such a version never changes: "
                "create a new one (`geofix gallery create`), add to that, and promote it",
                Reason.GALLERY_IN_USE,
                {"gallery_version": name},
            )
        make(self.store, info)  # what a `create` that was cut off has left
        mark(
            self.store,
            name,
            state=State.FILLING,
            images=0,
            cells=0,
            digest="",
            set_aside_digest="",
            **{f"add.{job}": 0},
        )
        return self.get(name)

    def finish_add(self, name: str, job: str, added: int = 0) -> GalleryInfo:
        """Note that a run of `add` has put everything in, and how many images are there; without a name, take what unfinished
        runs have left as all.

        Args:
            name: of the version.
            job: of the run.
            added: images that the run has put in.

        Raises:
            MismatchError: GALLERY_UNFINISHED; images are gone that Milvus had acknowledged.
        """
        contents = self.contents(name)
        info = contents.info
        finished = (job,) if job else info.unfinished
        if info.state is State.FILLING and finished:
            flush(self.store, name)
            counted = contents.count() + contents.count(set_aside=True)
            if job and counted < max(info.filled, added):
                raise _lost(name, counted, max(info.filled, added))
            mark(self.store, name, filled=counted, **{f"add.{each}": 1 for each in finished})
        return self.get(name)

    def contents(self, name: str) -> Contents:
        """The rows of a version, brought into the memory of Milvus, which may have been started again."""
        contents = Contents(self.store, self.get(name))
        for collection in contents.collections:
            if not self.store.is_loaded(collection):
                self.store.load(collection)
        return contents

    def writable(self, name: str) -> Contents:
        """The rows of a version that is being filled.

        Raises:
            MismatchError: GALLERY_IN_USE; nobody may write to it now.
        """
        contents = self.contents(name)
        if contents.info.state is not State.FILLING:
            raise MismatchError(
                f"{name} is {contents.info.state}, so nothing can be written to it: begin an add first",
                Reason.GALLERY_IN_USE,
                {"gallery_version": name},
            )
        return contents

    def insert(self, name: str, rows: Sequence[ImageRow]) -> None:
        """Write rows to a version that is being filled, until Milvus has acknowledged them.

        Raises:
            InvalidInput: a row cannot be right; nothing was written.
            MismatchError: GALLERY_IN_USE; nobody may write to it now.
        """
        contents = self.writable(name)
        for row in rows:
            row.check(contents.info.embedding_dim, self._bundle.manifest.cell_count, contents.info.feature_dim)
        contents.insert(rows)

    def seal(self, name: str, summary: Summary) -> GalleryInfo:
        """Mark a version as verified, if it holds as many rows as were verified and no `add` is unfinished.

        Raises:
            MismatchError: GALLERY_UNFINISHED.
        """
        contents = self.contents(name)
        info = contents.info
        if info.unfinished:
            raise unfinished(
                name, f"{len(info.unfinished)} runs of `geofix gallery add` did not finish: run them again"
            )
        if info.state is State.JOINING or info.joined:
            return info
        counted = contents.count(), contents.count(set_aside=True)
        if counted != (summary.images, summary.set_aside):
            raise unfinished(
                name,
                f"it holds {counted[0]} images and {counted[1]} set aside, {summary.images} and {summary.set_aside} were "
                "verified: verify it again",
            )
        if info.filled and sum(counted) != info.filled:
            raise _lost(name, sum(counted), info.filled)
        mark(
            self.store,
            name,
            images=summary.images,
            set_aside=summary.set_aside,
            cells=summary.cells,
            digest=summary.digest,
            set_aside_digest=summary.set_aside_digest,
        )
        mark(self.store, name, state=State.VERIFIED)
        return self.get(name)

    def restore(self, wanted: GalleryInfo) -> GalleryInfo:
        """Make the version that a backup describes, empty and under its name; once its rows were verified, mark it as it was.

        Raises:
            MismatchError: GALLERY_MISMATCH; it was built with another bundle. GALLERY_INVALID; no version can be like that.
            InvalidInput: GALLERY_EXISTS; a version of that name holds something else.
        """
        return restoring.restore(self.store, self._bundle, wanted)

    def promote(self, name: str, calibration: str) -> GalleryInfo:
        """Make a verified version the live one, with the JSON of its calibration (empty: its answers carry no radius).

        The images set aside join the others first; a version that was live keeps the calibration that it had.

        Raises:
            MismatchError: GALLERY_UNFINISHED; it is not verified, or lost rows since. GALLERY_INVALID; the calibration is not one
                of this bundle's decision rule.
        """
        promotion.promote(self.store, self._bundle, self.contents(name), calibration)
        return self.get(name)

    def rollback(self, known: str = "") -> GalleryInfo:
        """Make the version that was live before the live one live again.

        Args:
            known: the live version as far as the caller knows; where it was left by a call like this one, nothing changes.

        Raises:
            NotFound: nothing is live, or nothing was before it, or that is deleted.
            MismatchError: GALLERY_IN_USE; another version than `known` is live.
        """
        live = self.live()
        if live and known and live != known:
            if self.get(known).previous == live:
                return self.get(live)
            raise MismatchError(
                f"{live} is live and not {known}: somebody has promoted it meanwhile; look at `geofix gallery list`",
                Reason.GALLERY_IN_USE,
                {"gallery_version": live},
            )
        previous = self.get(live).previous if live else ""
        if not previous or live is None:
            raise NotFound("there is no version to go back to", Reason.GALLERY_NOT_FOUND)
        promotion.rollback(self.store, self._bundle, live, self.contents(previous))
        return self.get(previous)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Drop a version and all beside it.

        Raises:
            MismatchError: GALLERY_IN_USE; it is live, or (unless `force`) was until `DRAIN_S` ago; metadata `retry_after_s`.
        """
        info = self.store.describe_or_none(name) if is_version(name, self._alias) else None
        if info is None or not info.model_version.startswith(f"{self._name}@"):
            self.get(name)  # raises
        if name == self.live():
            raise MismatchError(
                f"{name} is live: promote another version first", Reason.GALLERY_IN_USE, {"gallery_version": name}
            )
        left = DRAIN_S - _age_s(info.retired) if info is not None and info.retired else 0.0
        if left > 0 and not force:
            raise MismatchError(
                f"{name} was live until a moment ago and may still be asked for: delete it in {left:.0f} s",
                Reason.GALLERY_IN_USE,
                {"gallery_version": name, "retry_after_s": f"{left:.0f}"},
            )
        drop(self.store, name, self._alias)

    @property
    def _name(self) -> str:
        return self._bundle.manifest.name

    def _own(self, images: int) -> GalleryInfo:
        name = self._bundle.gallery_version
        info = self.store.describe_or_none(name)
        if info is None or info.embedding_dim != self._bundle.manifest.embedding_dim:
            drop(self.store, name, self._alias)
            info = self._empty(name, images, False, 0.0, 0)
        elif info.state is not State.FILLING:
            self.store.load(name)
            if self.store.count(name) == info.images:
                if info.model_version != self._bundle.version:  # the same gallery in a bundle that changed elsewhere
                    mark(self.store, name, model_version=self._bundle.version, joined=0)
                return self.get(name)
        make(self.store, info)
        # The one version that may be repaired while it is live: its content is the bundle's.
        mark(
            self.store, name, model_version=self._bundle.version, state=State.FILLING, joined=0, **{f"add.{OWN_JOB}": 0}
        )
        return self.get(name)

    def _empty(self, name: str, images: int, thumbnails: bool, share: float, feature_dim: int) -> GalleryInfo:
        return GalleryInfo(
            name=name,
            model_version=self._bundle.version,
            images=0,
            cells=0,
            embedding_dim=self._bundle.manifest.embedding_dim,
            partitions=partition_count(images, many=self.store.many_partitions),
            state=State.FILLING,
            set_aside_share=share,
            feature_dim=feature_dim if share > 0 else 0,
            thumbnails=thumbnails,
            created=now(),
        )


def _lost(name: str, counted: int, expected: int) -> MismatchError:
    return unfinished(
        name, f"it holds {counted:,} images where {expected:,} were added: run `geofix gallery add` again, as before"
    )


def _age_s(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
