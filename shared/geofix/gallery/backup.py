"""Backs a gallery version up into one file, and restores it under its own name: no row lost, no answer changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geofix.bundle import Bundle
from geofix.errors import InvalidInput, MismatchError, Reason
from geofix.gallery.admin import GalleryAdmin
from geofix.gallery.backup_file import Backup, BackupWriter, content_hash, damaged, open_backup, read_rows
from geofix.gallery.layout import GalleryInfo, State
from geofix.gallery.restoring import RESTORE_JOB
from geofix.gallery.rows import ImageRow
from geofix.gallery.verify import verify

PAGE = 500
"""Rows of one read: with features and thumbnails some 7 MB."""

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""


def back_up(
    admin: GalleryAdmin, info: GalleryInfo, path: Path, progress: Progress = lambda _done, _total: None
) -> Backup:
    """Write a verified version into `path`, which must not exist.

    Raises:
        InvalidInput: `path` exists.
        MismatchError: GALLERY_UNFINISHED; the version is not verified, a row is damaged, or it changed meanwhile.
        OSError: the file cannot be written. Nothing is left of it.
    """
    if path.exists():
        raise InvalidInput(f"{path} exists: name another file, or delete it", metadata={"option": "file"})
    if info.state is not State.VERIFIED:
        raise _unfinished(info, "it is not verified: `geofix gallery verify` first")
    tally = _Tally()
    total = info.images + info.set_aside
    with BackupWriter(path, info) as file:
        where = [(False, partition) for partition in range(info.partitions)] + [(True, 0)] * (info.set_aside > 0)
        for set_aside, partition in where:
            after = ""
            while page := admin.read(
                info.name, set_aside=set_aside, partition=partition, after=after, limit=PAGE, thumbnails=True
            ):
                if wrong := [read.row.id for read in page if not read.intact]:
                    raise _unfinished(info, f"the row of image {wrong[0]} is damaged")
                rows = [read.row for read in page]
                file.write(rows)
                tally.add(rows)
                progress(tally.images + tally.set_aside, total)
                after = rows[-1].id
        if tally != _Tally.of(info):
            raise _unfinished(info, f"it holds {tally.images} images of {info.images}, or others than were verified")
        return file.finish()


def restore(
    admin: GalleryAdmin, bundle: Bundle, path: Path, progress: Progress = lambda _done, _total: None
) -> GalleryInfo:
    """Read a backup to its end, then put the version back, and verify it; it is not live before it is promoted.

    Where it was cut off it goes on when it is run again. Restoring what is there already changes nothing.

    Raises:
        MismatchError: GALLERY_INVALID; the file is damaged or cut short: nothing was restored. GALLERY_MISMATCH; it is of
            another bundle. GALLERY_UNFINISHED; what Milvus gives back is not what was put in.
        InvalidInput: GALLERY_EXISTS; there is a version of that name that holds something else.
    """
    backup = checked(path)
    info = admin.restore(backup.info)
    if info.state is State.FILLING:
        done = 0
        for rows in read_rows(backup):
            admin.insert(info.name, rows)
            done += len(rows)
            progress(done, backup.rows)
        admin.finish_add(info.name, RESTORE_JOB)
        verify(admin, info.name, bundle)
        info = admin.restore(backup.info)
    return info


@dataclass
class _Tally:
    images: int = 0
    set_aside: int = 0
    digest: int = 0
    set_aside_digest: int = 0

    @classmethod
    def of(cls, info: GalleryInfo) -> _Tally:
        return cls(info.images, info.set_aside, int(info.digest or "0", 16), int(info.set_aside_digest or "0", 16))

    def add(self, rows: list[ImageRow]) -> None:
        for row in rows:
            if row.feature is None:
                self.images += 1
                self.digest ^= row.digest
            else:
                self.set_aside += 1
                self.set_aside_digest ^= row.digest


def checked(path: Path) -> Backup:
    """A backup of which every row was read and is as it was written.

    Raises:
        MismatchError: GALLERY_INVALID; it is damaged or cut short.
    """
    backup, tally = open_backup(path), _Tally()

    def counted() -> Iterator[list[ImageRow]]:
        for rows in read_rows(backup):
            tally.add(rows)
            yield rows

    if content_hash(backup, counted()) != backup.sha256 or tally != _Tally.of(backup.info):
        raise damaged(path, "does not hold what it was written with")
    return backup


def _unfinished(info: GalleryInfo, what: str) -> MismatchError:
    return MismatchError(f"{info.name}: {what}", Reason.GALLERY_UNFINISHED, {"gallery_version": info.name})
