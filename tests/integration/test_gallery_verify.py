"""What a verification finds wrong with a version: rows that have changed, are gone or are twice there, and searches that miss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bundle_factory import EMBEDDING_DIM
from geofix.bundle import Bundle
from geofix.errors import MismatchError, Reason
from geofix.gallery.admin import DirectAdmin, Query
from geofix.gallery.layout import GalleryInfo, State
from geofix.gallery.rows import ImageRow
from geofix.gallery.search import Hit
from geofix.gallery.store import Store
from geofix.gallery.verify import verify
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.sources import Source
from milvus_server import MilvusServer
from own_images import IMAGES, Adding, first_row


def test_a_row_that_changed_is_found(admin: DirectAdmin, bundle: Bundle, add: Adding, table: Path) -> None:
    made = admin.create("changed", IMAGES)
    add(made.name, table)
    row = first_row(admin, made.name)
    record = row.record() | {"lat": row.lat + 1e-9}
    partition = f"p{row.cell_id % made.partitions}"
    admin.store.client.upsert(made.name, [record], partition_name=partition)
    with pytest.raises(MismatchError, match="1 rows are damaged"):
        verify(admin, made.name, bundle)
    admin.store.client.delete(made.name, filter=f'id == "{row.id}"')
    with pytest.raises(MismatchError, match=f"holds {IMAGES - 1} images where {IMAGES} were added") as caught:
        verify(admin, made.name, bundle)
    assert caught.value.reason is Reason.GALLERY_UNFINISHED
    assert add(made.name, table).added == 1
    sealed = verify(admin, made.name, bundle)
    admin.store.client.delete(made.name, filter=f'id == "{first_row(admin, made.name).id}"')
    with pytest.raises(MismatchError, match="lost images") as caught:
        admin.promote(sealed.name, "")
    assert caught.value.reason is Reason.GALLERY_UNFINISHED
    admin.delete(made.name)


def test_rows_that_are_lost_before_add_ends_are_missed(
    admin: DirectAdmin, bundle: Bundle, networks: LocalNetworks, add: Adding, table: Path
) -> None:
    made = admin.create("lost", IMAGES)

    class Forgetful(DirectAdmin):
        """Its Milvus loses a row that it has acknowledged."""

        def finish_add(self, name: str, job: str, added: int = 0) -> GalleryInfo:
            self.store.client.delete(name, filter=f'id == "{first_row(self, name).id}"')
            return super().finish_add(name, job, added)

    with pytest.raises(MismatchError, match=f"holds {IMAGES - 1} images where {IMAGES} were added"):
        Adder(Forgetful(admin.store, bundle), bundle, networks).run(made.name, Source(table))
    with pytest.raises(MismatchError, match="did not finish"):
        verify(admin, made.name, bundle)
    again = add(made.name, table)
    assert (again.added, again.already_there) == (1, IMAGES - 1)
    verify(admin, made.name, bundle)
    admin.delete(made.name)


def test_a_search_that_misses_is_found(admin: DirectAdmin, bundle: Bundle, add: Adding, table: Path) -> None:
    made = admin.create("misses", IMAGES)
    add(made.name, table)

    class Missing(DirectAdmin):
        """Its searches lose the nearest neighbour."""

        def search(self, version: str, queries: Sequence[Query]) -> list[list[Hit]]:
            return [hits[1:] for hits in super().search(version, queries)]

    with pytest.raises(MismatchError, match="does not find what an exact search finds"):
        verify(Missing(admin.store, bundle), made.name, bundle)
    assert admin.get(made.name).state is State.FILLING
    verify(admin, made.name, bundle)
    admin.delete(made.name)


def test_an_image_that_two_processes_put_at_two_places_is_found(
    admin: DirectAdmin, bundle: Bundle, milvus: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find it missing, and a server keeps an id apart in a partition only; on Milvus Lite the last one stays."""
    monkeypatch.setattr("geofix.gallery.layout.LEAST_PARTITIONS", 4)
    vector = np.eye(1, EMBEDDING_DIM, dtype=np.float32)[0]
    with Store(milvus.uri) as store:
        for both in (admin, DirectAdmin(store, bundle)):
            made = both.create("twin", 10)
            both.begin_add(made.name, "job")
            for lat, lon in ((47.0, 10.0), (-33.0, 151.0)):
                cell = int(bundle.cells.assign([lat], [lon])[0])
                both.insert(made.name, [ImageRow("image", lat, lon, cell, vector)])
            both.finish_add(made.name, "job")
            if both is admin:
                assert verify(both, made.name, bundle).images == 1
            else:
                with pytest.raises(
                    MismatchError, match=r"image at (47|-33)\.0+, .* and .* with one run after the other"
                ):
                    verify(both, made.name, bundle)
            both.delete(made.name)
