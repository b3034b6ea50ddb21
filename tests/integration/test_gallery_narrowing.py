"""What a search may ask beside the cell, on Milvus Lite and a real server, against numpy: area, fields, similarity, batches."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from numpy.typing import NDArray

from geofix.area import Area, Box, Circle
from geofix.countries import Country
from geofix.errors import DeadlineExceeded
from geofix.gallery import search as searching
from geofix.gallery.layout import GalleryInfo, partition_name, schema
from geofix.gallery.narrowing import ANY, Narrowing
from geofix.gallery.search import Gallery, Hit, Scope
from geofix.gallery.store import Store
from geofix.geo import normalise, xyz_to_latlon

DIM, PARTITIONS = 8, 4
BIG, SMALL, NONE = 1, 2, 3
"""Cells of 9,000 images, of 1,000 and of none; the big one holds more than one answer of Milvus may."""
ODD_ID = 'row "\\ é'
"""An id that would end a quoted string if it were not escaped."""


@dataclass(frozen=True)
class Rows:
    """The images, as numpy searches them."""

    cell_id: NDArray[np.int64]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    embedding: NDArray[np.float32]

    @classmethod
    def random(cls) -> Rows:
        rng = np.random.default_rng(0)
        count = 10_000
        xyz = normalise(rng.normal(size=(count, 3)))
        lat, lon = xyz_to_latlon(xyz)
        lat[:8], lon[:8] = [90, -90, 0, -17.8, 45, -16.8, 89.9999, 0], [0, 10, 180, 178, 180, -179.95, 77, 179.99999]
        lat[-3000:-2000], lon[-3000:-2000] = rng.uniform(46, 48, 1000), rng.uniform(6, 11, 1000)
        embedding = normalise(rng.normal(size=(count, DIM))).astype(np.float32)
        return cls(np.where(np.arange(count) < 9000, BIG, SMALL), lat, lon, embedding)

    @cached_property
    def ids(self) -> list[str]:
        return [ODD_ID + str(row) if row % 3 == 0 else f"{row * 7919 % 10_007:08x}" for row in range(len(self.lat))]

    def fields(self, row: int) -> dict[str, str]:
        return {"licence": "CC0" if row % 2 else "CC BY", "rare": "yes" if row % 1500 == 7 else "no", "ü\"'": "ä \\ %"}

    def best(
        self, query: NDArray[np.float32], scope: Scope, belongs: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        inside = belongs & np.isin(self.cell_id, scope.cells) if scope.cells else belongs
        rows = np.flatnonzero(inside)
        similarity = (self.embedding[rows] @ query).astype(float)
        order = np.argsort(-similarity)[: scope.k]
        return rows[order], similarity[order]


ROWS = Rows.random()
EVERY = np.ones(len(ROWS.lat), bool)


@pytest.fixture(scope="module", params=["lite", "server"])
def gallery(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Gallery]:
    directory = tmp_path_factory.mktemp("lite") / "milvus.db"
    uri = str(directory) if request.param == "lite" else request.getfixturevalue("milvus").uri
    info = GalleryInfo("gallery_narrowing_0", "narrowing@0", len(ROWS.lat), 2, DIM, PARTITIONS)
    with Store(uri, create=True) as store:
        client = store.client
        client.create_collection(info.name, schema=schema(DIM), properties=info.properties())
        for index in range(PARTITIONS):
            client.create_partition(info.name, partition_name(index, PARTITIONS))
        for cell in (BIG, SMALL):
            rows = np.flatnonzero(ROWS.cell_id == cell)
            for part in np.array_split(rows, max(1, len(rows) // 2000)):
                client.insert(
                    info.name, [row_of(int(row)) for row in part], partition_name=partition_name(cell, PARTITIONS)
                )
        client.flush(info.name)
        index_params = client.prepare_index_params()
        index_params.add_index("embedding", index_type="FLAT", metric_type="IP")
        client.create_index(info.name, index_params)
        store.load(info.name)
        yield Gallery(store, info)


@pytest.fixture
async def closing(gallery: Gallery) -> AsyncIterator[None]:
    """Closes what searches of this test's event loop opened."""
    yield
    await gallery._store.searches.close_async()


def row_of(row: int) -> dict[str, object]:
    payload = {"picture": f"p{row}", "attribution": "", "fields": ROWS.fields(row)}
    return {
        "id": ROWS.ids[row],
        "cell_id": int(ROWS.cell_id[row]),
        "embedding": ROWS.embedding[row],
        "lat": float(ROWS.lat[row]),
        "lon": float(ROWS.lon[row]),
        "payload": json.dumps(payload, ensure_ascii=False),
    }


def a_query(seed: int) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).normal(size=DIM)).astype(np.float32)


def assert_exact(hits: list[Hit], query: NDArray[np.float32], scope: Scope, belongs: NDArray[np.bool_]) -> None:
    rows, similarity = ROWS.best(query, scope, belongs)
    assert len(hits) == len(rows)
    np.testing.assert_allclose([hit.similarity for hit in hits], similarity, atol=1e-5)
    allowed = {ROWS.ids[row] for row in np.flatnonzero(belongs)}
    assert all(hit.id in allowed for hit in hits)
    assert len({hit.id for hit in hits}) == len(hits)


def random_area(rng: np.random.Generator) -> Area:
    """Of all sizes; a third at a pole, a third across the antimeridian."""
    lat, lon = float(rng.uniform(-90, 90)), float(rng.uniform(-180, 180))
    match rng.integers(3):
        case 0:
            lat = float(rng.choice([-1, 1]) * rng.uniform(85, 90))
        case 1:
            lon = float(rng.choice([-1, 1]) * rng.uniform(175, 180))
    if rng.integers(2):
        return Circle(lat, lon, float(10 ** rng.uniform(4, 7.2)))
    other = float(rng.uniform(-90, 90))
    east = (lon + float(rng.uniform(0, 360)) + 180) % 360 - 180
    return Box(min(lat, other), lon, max(lat, other), east)


async def test_no_neighbour_lies_outside_of_1000_random_areas_and_none_is_missed(
    gallery: Gallery, closing: None
) -> None:
    rng = np.random.default_rng(7)
    areas = [random_area(rng) for _ in range(1000)]
    cells = [((BIG,), (SMALL,), (BIG, SMALL, NONE), ())[index % 4] for index in range(1000)]
    scopes = [Scope(cell, 10, Narrowing(area)) for cell, area in zip(cells, areas, strict=True)]
    counts = []
    for start in range(0, 1000, 50):
        part = [(a_query(start + index), scope) for index, scope in enumerate(scopes[start : start + 50])]
        for (query, scope), hits in zip(part, await gallery.search_batch(part, 60), strict=True):
            area = scope.narrowing.area
            assert area is not None
            assert_exact(hits, query, scope, area.contains(ROWS.lat, ROWS.lon))
            counts.append(len(hits))
    assert {0, 10} < set(counts)


@pytest.mark.parametrize(
    "area",
    [Country("CH"), Country("RU"), Country("AQ"), Country("FJ"), Box(-90, -180, 90, 180), Box(45, 180, 45, 180)],
    ids=str,
)
@pytest.mark.parametrize("k", [3, 1000])
def test_areas_with_k(gallery: Gallery, area: Area, k: int) -> None:
    belongs = area.contains(ROWS.lat, ROWS.lon)
    assert belongs.any()
    for cells in ((), (BIG,), (SMALL, NONE)):
        scope = Scope(cells, k, Narrowing(area))
        assert_exact(gallery.search(a_query(3), cells, k, 60, scope.narrowing), a_query(3), scope, belongs)


@pytest.mark.parametrize(("k", "cells"), [(2, (BIG,)), (10, (SMALL, BIG)), (10, (NONE,)), (1000, ())])
@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ([("licence", ["CC0"])], lambda row: row % 2 == 1),
        ([("licence", ["CC0", "CC BY"]), ("rare", ["yes"])], lambda row: row % 1500 == 7),
        ([("ü\"'", ["ä \\ %"])], lambda row: True),
        ([("licence", ['CC0" or id != "'])], lambda row: False),
        ([("absent", [""])], lambda row: True),
    ],
    ids=["half", "six of 10,000", "all", "no injection", "absent"],
)
def test_fields_with_k(
    gallery: Gallery,
    fields: list[tuple[str, list[str]]],
    matches: Callable[[int], bool],
    cells: tuple[int, ...],
    k: int,
) -> None:
    narrowing = Narrowing(fields=tuple((name, frozenset(values)) for name, values in fields))
    belongs = np.array([matches(row) for row in range(len(ROWS.lat))], np.bool_)
    hits = gallery.search(a_query(4), cells, k, 60, narrowing)
    assert_exact(hits, a_query(4), Scope(cells, k, narrowing), belongs)
    assert all(hit.fields == ROWS.fields(int(hit.picture[1:])) for hit in hits)


def test_everything_at_once(gallery: Gallery) -> None:
    area = Box(-90, -60, 90, 120)
    narrowing = Narrowing(area, (("licence", frozenset({"CC0"})),), 0.5)
    odd = np.arange(len(ROWS.lat)) % 2 == 1
    belongs = area.contains(ROWS.lat, ROWS.lon) & odd & (ROWS.embedding @ a_query(5) >= 0.5)
    assert 100 < belongs.sum() < 1000
    assert_exact(gallery.search(a_query(5), (), 1000, 60, narrowing), a_query(5), Scope((), 1000, narrowing), belongs)


@pytest.mark.parametrize("least", [-1.0, 0.3, 0.9, 1.0])
def test_the_least_similarity(gallery: Gallery, least: float) -> None:
    narrowing = Narrowing(min_similarity=least)
    hits = gallery.search(a_query(6), (BIG,), 1000, 60, narrowing)
    assert_exact(hits, a_query(6), Scope((BIG,), 1000, narrowing), ROWS.embedding @ a_query(6) >= least)


async def test_a_batch_answers_each_query_by_its_own_scope(gallery: Gallery, closing: None) -> None:
    scopes = [
        Scope((BIG,), 7),
        Scope((SMALL,), 7),
        Scope((NONE,), 7),
        Scope((), 3),
        Scope((BIG,), 9, Narrowing(Country("CH"))),
    ]
    queries = [(a_query(index), scopes[index % 5]) for index in range(32)]
    for (query, scope), hits in zip(queries, await gallery.search_batch(queries, 60), strict=True):
        area = scope.narrowing.area
        assert_exact(hits, query, scope, EVERY if area is None else area.contains(ROWS.lat, ROWS.lon))
        alone = gallery.search(query, scope.cells, scope.k, 60, scope.narrowing)
        assert [hit.id for hit in hits] == [hit.id for hit in alone]


def test_the_images_of_cells_are_counted(gallery: Gallery) -> None:
    assert gallery.counts([BIG, NONE, SMALL, BIG]) == {BIG: 9000, NONE: 0, SMALL: 1000}


def test_a_search_that_reads_too_much_ends_with_its_deadline(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MOST_ROWS", 64)
    rare = Narrowing(fields=(("rare", frozenset({"yes"})),))
    assert len(gallery.search(a_query(8), (SMALL,), 10, 60, rare)) == 1
    with pytest.raises(DeadlineExceeded, match="in time"):
        gallery.search(a_query(8), (), 10, 0.2, rare)


def test_nothing_is_narrowed_by_default(gallery: Gallery) -> None:
    assert_exact(gallery.search(a_query(9), (SMALL,), 10, 60, ANY), a_query(9), Scope((SMALL,), 10), EVERY)
