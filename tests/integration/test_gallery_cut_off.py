"""Whatever is done to a gallery version may be cut off before any of its writes, and done again: nothing is lost or half live.

On Milvus Lite, which dies with the tool, the directory is copied before each write: it holds what a kill -9 then leaves. A server
lives on where the tool dies, and knows nothing of the calls that were not made: there the tool ends instead of writing.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bundle_factory import make_bundle
from geofix.bundle import Bundle
from geofix.errors import MismatchError, Reason
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.layout import State
from geofix.gallery.loader import make_live
from geofix.gallery.store import Store
from geofix.gallery.verify import verify
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.sources import Source
from milvus_server import MilvusServer
from own_images import write_images

IMAGES = 60
CALLS = (
    "create_collection",
    "create_partition",
    "create_index",
    "load_collection",
    "alter_collection_properties",
    "create_alias",
    "alter_alias",
    "drop_alias",
    "drop_collection",
    "flush",
    "upsert",
)
"""Of pymilvus's client, all that change something; rows are written by `searches.upsert`."""


class CutOffError(BaseException):
    """The tool has died."""


@contextlib.contextmanager
def before_each_write(admin: DirectAdmin, happens: Callable[[str], None]) -> Iterator[None]:
    """Inside, something happens before each call that writes."""
    with pytest.MonkeyPatch.context() as patched:

        def guard(owner: Any, name: str) -> None:
            call = getattr(owner, name)

            def guarded(*args: Any, **kwargs: Any) -> Any:
                happens(name)
                return call(*args, **kwargs)

            patched.setattr(owner, name, guarded)

        guard(admin.store.searches, "upsert")
        for name in CALLS:
            guard(admin.store.client, name)
        yield


@dataclass(frozen=True)
class Gallery:
    """What the operations are done to: the bundle's gallery, which is live, and a version `mine` of one's own images."""

    bundle: Bundle
    networks: LocalNetworks
    table: Path

    def begin(self, admin: DirectAdmin) -> None:
        make_live(admin, self.bundle)

    def fill(self, admin: DirectAdmin) -> None:
        Adder(admin, self.bundle, self.networks).run(self.mine(admin), Source(self.table))

    def mine(self, admin: DirectAdmin) -> str:
        return admin.create("mine", IMAGES, thumbnails=True).name

    def made(self, admin: DirectAdmin) -> list[str]:
        return [info.name for info in admin.versions()[0] if info.name != self.bundle.gallery_version]

    def version(self, admin: DirectAdmin) -> str:
        (name,) = self.made(admin)
        return name

    def check(self, admin: DirectAdmin, *may_be_live: str) -> str:
        """What is live is whole, and what was live a moment ago cannot be dropped; returns what is live."""
        live = admin.live()
        assert live in may_be_live
        info = admin.get(live)
        whole = {self.bundle.gallery_version: 500}.get(live, IMAGES)
        assert (info.state, info.images, admin.contents(live).count()) == (State.VERIFIED, whole, whole)
        for name in may_be_live:
            with pytest.raises(MismatchError) as caught:
                admin.delete(name)
            assert caught.value.reason is Reason.GALLERY_IN_USE
        return live


def create(gallery: Gallery, admin: DirectAdmin) -> None:
    gallery.mine(admin)


def old_is_live(gallery: Gallery, admin: DirectAdmin) -> None:
    gallery.check(admin, gallery.bundle.gallery_version)


def add_or_create(gallery: Gallery, admin: DirectAdmin) -> None:
    for name in gallery.made(admin):  # half made, it can be filled; that makes the rest of it
        admin.begin_add(name, "other")
        admin.finish_add(name, "other")
    create(gallery, admin)


def created(gallery: Gallery, admin: DirectAdmin) -> None:
    gallery.fill(admin)
    info = verify(admin, gallery.version(admin), gallery.bundle)
    assert info.images + info.set_aside == IMAGES


def begin_late(gallery: Gallery, admin: DirectAdmin) -> None:
    admin.begin_add(gallery.version(admin), "late")


def finish(gallery: Gallery, admin: DirectAdmin) -> None:
    admin.finish_add(gallery.version(admin), "late", IMAGES)


def unfinished_is_refused(gallery: Gallery, admin: DirectAdmin) -> None:
    old_is_live(gallery, admin)
    name = gallery.version(admin)
    if admin.get(name).unfinished:
        with pytest.raises(MismatchError, match="did not finish"):
            verify(admin, name, gallery.bundle)


def seal(gallery: Gallery, admin: DirectAdmin) -> None:
    verify(admin, gallery.version(admin), gallery.bundle)


def unverified_is_refused(gallery: Gallery, admin: DirectAdmin) -> None:
    old_is_live(gallery, admin)
    name = gallery.version(admin)
    if admin.get(name).state is State.FILLING:
        with pytest.raises(MismatchError, match="not verified"):
            admin.promote(name, "")


def is_verified(gallery: Gallery, admin: DirectAdmin) -> None:
    info = admin.get(gallery.version(admin))
    assert (info.state, info.images + info.set_aside, info.filled) == (State.VERIFIED, IMAGES, IMAGES)


def promote(gallery: Gallery, admin: DirectAdmin) -> None:
    admin.promote(gallery.version(admin), "")


def old_or_new_is_live(gallery: Gallery, admin: DirectAdmin) -> None:
    old, name = gallery.bundle.gallery_version, gallery.version(admin)
    gallery.check(admin, old, *[name] * (admin.live() == name))


def promoted(gallery: Gallery, admin: DirectAdmin) -> None:
    old, name = gallery.bundle.gallery_version, gallery.version(admin)
    assert gallery.check(admin, old, name) == name
    assert admin.get(name).previous == old
    assert verify(admin, name, gallery.bundle).images == IMAGES


def roll_back(gallery: Gallery, admin: DirectAdmin) -> None:
    admin.rollback(gallery.version(admin))


def both_are_kept(gallery: Gallery, admin: DirectAdmin) -> None:
    gallery.check(admin, gallery.bundle.gallery_version, gallery.version(admin))


def rolled_back(gallery: Gallery, admin: DirectAdmin) -> None:
    both_are_kept(gallery, admin)
    roll_back(gallery, admin)  # once more, and not a version further back
    assert admin.live() == gallery.bundle.gallery_version


def delete(gallery: Gallery, admin: DirectAdmin) -> None:
    for name in gallery.made(admin):
        admin.delete(name, force=True)


def deleted(gallery: Gallery, admin: DirectAdmin) -> None:
    old_is_live(gallery, admin)
    left = [name for name in admin.store.client.list_collections() if name.startswith(gallery.bundle.gallery_alias)]
    assert left == [gallery.bundle.gallery_version]  # nor what lay beside it


Does = Callable[[Gallery, DirectAdmin], None]


@dataclass(frozen=True)
class Step:
    """An operation: what holds wherever it is cut off, how it is gone on with, what it has done at last, and its least writes."""

    does: Does
    holds: Does
    again: Does
    done: Does
    writes: int


STEPS = {
    "create": Step(create, old_is_live, add_or_create, created, 8),
    "finish an add": Step(finish, unfinished_is_refused, finish, unverified_is_refused, 2),
    "verify": Step(seal, unverified_is_refused, seal, is_verified, 2),
    "promote": Step(promote, old_or_new_is_live, promote, promoted, 8),
    "roll back": Step(roll_back, both_are_kept, roll_back, rolled_back, 4),
    "delete": Step(delete, old_is_live, delete, deleted, 3),
}
WAY: dict[str, Does] = {
    "create": create,
    "fill": Gallery.fill,
    "begin an add": begin_late,
    "finish an add": finish,
    "verify": seal,
    "promote": promote,
    "roll back": roll_back,
    "delete": delete,
}
"""The life of a version: what comes before a step is what it needs."""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    bundle = make_bundle(tmp_path_factory.mktemp("bundle"), name="cutoff")
    table = write_images(tmp_path_factory.mktemp("images"), IMAGES)
    return Gallery(bundle, LocalNetworks(bundle), table)


@pytest.fixture(autouse=True)
def few_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geofix.gallery.layout.LEAST_PARTITIONS", 4)


@pytest.mark.parametrize("name", STEPS)
def test_the_tool_and_milvus_lite_with_it_are_killed(gallery: Gallery, tmp_path: Path, name: str) -> None:
    step, directory = STEPS[name], tmp_path / "milvus.db"
    copies: list[Path] = []

    def copy(call: str) -> None:
        copies.append(shutil.copytree(directory, tmp_path / f"{len(copies)}-{call}"))

    with Store(str(directory), create=True) as store:
        admin = DirectAdmin(store, gallery.bundle)
        gallery.begin(admin)
        for each in itertools.takewhile(lambda each: each != name, WAY):
            WAY[each](gallery, admin)
        with before_each_write(admin, copy):
            step.does(gallery, admin)
    assert len(copies) >= step.writes
    for killed in [*copies, directory]:
        with Store(str(killed)) as store:
            admin = DirectAdmin(store, gallery.bundle)
            step.holds(gallery, admin)
            step.again(gallery, admin)
            step.done(gallery, admin)


def test_the_tool_is_killed_again_and_again_and_the_server_goes_on(gallery: Gallery, milvus: MilvusServer) -> None:
    """Each time it comes a write further than the time before; what was written stays."""
    with Store(milvus.uri) as store:
        admin = DirectAdmin(store, gallery.bundle)
        gallery.begin(admin)
        for name, does in WAY.items():
            step = STEPS.get(name)
            if step is None:
                does(gallery, admin)
                continue
            deaths = 0
            while cut_off(admin, deaths, partial(does, gallery, admin)):
                deaths += 1
                step.holds(gallery, admin)
            assert deaths > 0
            if name not in ("create", "finish an add"):  # which are done when the rest is
                step.done(gallery, admin)


def cut_off(admin: DirectAdmin, writes: int, work: Callable[[], None]) -> bool:
    """Whether the tool died before it had done some work, when it wanted to write for the nth time."""
    left = [writes]

    def die(_call: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise CutOffError

    try:
        with before_each_write(admin, die):
            work()
    except CutOffError:
        return True
    return False
