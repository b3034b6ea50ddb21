"""A gallery version backed up and restored on real Milvus Lite: no row lost, no answer changed; files that are not whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundle_factory import EMBEDDING_DIM, make_bundle
from geofix.bundle import Bundle
from geofix.errors import InvalidInput, MismatchError, Reason, Unavailable
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.backup import back_up, checked, restore
from geofix.gallery.layout import GalleryInfo, State
from geofix.gallery.loader import make_live, own_calibration
from geofix.gallery.rows import ImageRow
from geofix.gallery.store import Store
from geofix.gallery.verify import verify
from geofix.ingest.add import Adder, AddOptions
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.sources import Source
from own_images import write_images

IMAGES = 150


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def admin(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectAdmin]:
    with milvus(bundle, tmp_path_factory.mktemp("lite")) as access:
        yield access


@contextlib.contextmanager
def milvus(bundle: Bundle, directory: Path) -> Iterator[DirectAdmin]:
    access = DirectAdmin(Store(str(directory / "milvus.db"), create=True), bundle)
    yield access
    access.close()


@pytest.fixture(scope="module")
def verified(admin: DirectAdmin, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> GalleryInfo:
    """A version with images set aside and thumbnails that was not live yet."""
    made = admin.create("mine", IMAGES, thumbnails=True)
    table = write_images(tmp_path_factory.mktemp("images"), IMAGES)
    Adder(admin, bundle, LocalNetworks(bundle), AddOptions(patience_s=1.0)).run(made.name, Source(table))
    sealed = verify(admin, made.name, bundle)
    assert sealed.images + sealed.set_aside == IMAGES
    assert sealed.set_aside > 0
    return sealed


@pytest.fixture(scope="module")
def early(admin: DirectAdmin, verified: GalleryInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backup") / "early.geofix"
    back_up(admin, verified, path)
    return path


def test_a_live_version_is_restored_whole_and_answers_alike(
    admin: DirectAdmin, bundle: Bundle, verified: GalleryInfo, early: Path, tmp_path: Path
) -> None:
    live = admin.promote(verified.name, own_calibration(bundle))
    path = tmp_path / "live.geofix"
    made = back_up(admin, live, path)
    assert made.rows == live.images + live.set_aside == IMAGES + live.set_aside
    with milvus(bundle, tmp_path / "new") as other:
        restored = restore(other, bundle, path)
        assert replace(restored, adds=(), filled=0) == replace(live, adds=(), filled=0)
        assert other.live() is None
        assert restore(other, bundle, path) == restored  # again changes nothing
        again = back_up(other, restored, tmp_path / "again.geofix")
        assert again.sha256 == made.sha256, "every row is what it was, to the last bit"
        assert other.promote(live.name, "").calibration == live.calibration != ""
        assert other.live() == live.name
        queries = np.random.default_rng(0).normal(size=(12, EMBEDDING_DIM)).astype(np.float32)
        asked = [(query / np.linalg.norm(query), cells, 20) for query in queries for cells in ((), (1, 2, 3))]
        for before, after in zip(admin.search(live.name, asked), other.search(live.name, asked), strict=True):
            assert [hit._replace(similarity=0) for hit in before] == [hit._replace(similarity=0) for hit in after]
            for hit, same in zip(before, after, strict=True):  # a sum in another order differs in its last bit
                assert hit.similarity == pytest.approx(same.similarity, abs=1e-7)


def test_the_bundle_s_own_gallery_which_has_nothing_set_aside(
    admin: DirectAdmin, bundle: Bundle, tmp_path: Path
) -> None:
    own = make_live(admin, bundle)
    made = back_up(admin, own, tmp_path / "own.geofix")
    with milvus(bundle, tmp_path) as other:
        restored = restore(other, bundle, made.path)
        assert (restored.images, restored.calibration) == (own.images, own.calibration)
        assert other.promote(restored.name, "").joined
        assert make_live(other, bundle).name == own.name  # a platform that starts finds it whole


def test_a_restore_that_was_cut_off_goes_on_and_what_is_set_aside_stays_so(
    bundle: Bundle, verified: GalleryInfo, early: Path, tmp_path: Path
) -> None:
    class Dying(DirectAdmin):
        def insert(self, name: str, rows: Sequence[ImageRow]) -> None:
            super().insert(name, rows[:50])
            raise Unavailable("the database is away")

    store = Store(str(tmp_path / "milvus.db"), create=True)
    with pytest.raises(Unavailable):
        restore(Dying(store, bundle), bundle, early)
    other = DirectAdmin(store, bundle)
    (half,), live = other.versions()
    assert (half.state, live) == (State.FILLING, None)
    restored = restore(other, bundle, early)
    assert (restored.images, restored.set_aside, restored.joined) == (verified.images, verified.set_aside, False)
    assert len(other.read(restored.name, set_aside=True)) == verified.set_aside
    promoted = other.promote(restored.name, "")
    assert (promoted.images, promoted.joined) == (IMAGES, True)
    with pytest.raises(InvalidInput, match="holds something else") as caught:
        restore(other, bundle, early)
    assert caught.value.reason is Reason.GALLERY_EXISTS
    other.close()


def test_a_file_that_is_not_whole_is_refused_by_name_and_restores_nothing(
    bundle: Bundle, early: Path, tmp_path: Path
) -> None:
    whole, path = early.read_bytes(), tmp_path / "broken.geofix"
    broken = [whole[:at] for at in (0, 3, 1000, len(whole) // 2, len(whole) - 1)] + [b"no parquet at all" * 100]
    with milvus(bundle, tmp_path) as other:
        for data in broken:
            path.write_bytes(data)
            with pytest.raises(MismatchError, match=r"broken\.geofix .*nothing was restored") as caught:
                restore(other, bundle, path)
            assert caught.value.reason is Reason.GALLERY_INVALID
        with pytest.raises(MismatchError, match="does not exist"):
            restore(other, bundle, tmp_path / "absent.geofix")
        assert other.versions() == ([], None)
        assert other.store.client.list_collections() == []


def test_a_changed_byte_is_refused_or_changes_nothing(early: Path, tmp_path: Path) -> None:
    """Parquet holds a few bytes that nobody reads, such as the encodings that a column might have used."""
    whole, path = early.read_bytes(), tmp_path / "flipped.geofix"
    known = replace(checked(early), path=path)
    refused = 0
    flips = range(4, len(whole), len(whole) // 120)
    for at in flips:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            assert checked(path) == known
        except MismatchError:
            refused += 1
    assert refused > 0.9 * len(flips)


def test_what_cannot_be_backed_up_or_put_back(
    bundle: Bundle, admin: DirectAdmin, verified: GalleryInfo, early: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="exists"):
        back_up(admin, verified, early)
    with pytest.raises(MismatchError, match="not verified") as unverified:
        back_up(admin, replace(verified, state=State.FILLING), tmp_path / "x.geofix")
    assert unverified.value.reason is Reason.GALLERY_UNFINISHED
    with pytest.raises(MismatchError, match="others than were verified"):
        back_up(admin, replace(verified, digest="0" * 16), tmp_path / "x.geofix")
    assert list(tmp_path.iterdir()) == [], "nothing is left of a backup that failed"
    another = make_bundle(tmp_path / "another", seed=1)
    with pytest.raises(MismatchError, match="was built for") as mismatch:
        restore(DirectAdmin(admin.store, another), another, early)
    assert mismatch.value.reason is Reason.GALLERY_MISMATCH
