"""Searches in an embedded Milvus Lite: segment by segment where every row counts, by its engine elsewhere; the same answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from geofix.gallery import embedded
from geofix.gallery.calls import Call, Row
from geofix.gallery.layout import GalleryInfo, partition_name
from geofix.gallery.store import Store
from geofix.gallery.version_collections import flush, make

DIM, PARTITIONS, CELLS, ROWS = 8, 4, 9, 600
NAME = "gallery_embedded_1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A gallery whose rows are in segments, several of them a partition."""
    with Store(str(tmp_path / "milvus.db"), create=True) as opened:
        make(opened, GalleryInfo(NAME, "embedded@1", 0, 0, DIM, PARTITIONS))
        for start in range(0, ROWS, ROWS // 3):
            write(opened, range(start, start + ROWS // 3), seed=1)
            flush(opened, NAME)
        yield opened


def write(store: Store, numbers: range, seed: int) -> None:
    rng = np.random.default_rng([seed, numbers.start])
    records: dict[str, list[dict[str, Any]]] = {}
    for number in numbers:
        cell = number % CELLS
        records.setdefault(partition_name(cell, PARTITIONS), []).append(
            {
                "id": f"{number:04x}",
                "cell_id": cell,
                "lat": number / 10,
                "lon": -number / 10,
                "payload": f'{{"picture": "é{number}"}}',
                "embedding": unit(rng, 1)[0],
            }
        )
    for partition, rows in records.items():
        store.client.upsert(NAME, rows, partition_name=partition)


def unit(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    values = rng.normal(size=(rows, DIM)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def calls() -> list[Call]:
    vectors = unit(np.random.default_rng(7), 3)
    whole = Call(NAME, vectors, 10)
    two = replace(whole, cells=(1, 6), partitions=("p1", "p2"))
    return [
        whole,
        replace(whole, limit=2 * ROWS),
        two,
        replace(two, limit=1),
        replace(two, filter="((lat >= 10.0 and lat <= 30.5))"),
        replace(whole, cells=(77,), partitions=("p1",)),
        replace(whole, cells=(1, 6)),
        replace(whole, filter='id < "0050"'),
    ]


def collection(store: Store) -> Any:
    return store.searches._database.get_collection(NAME)  # type: ignore[attr-defined]


def assert_same(found: list[list[Row]], expected: list[list[Row]]) -> None:
    assert [[(row.id, row.cell_id, row.lat, row.lon, row.payload) for row in rows] for rows in found] == [
        [(row.id, row.cell_id, row.lat, row.lon, row.payload) for row in rows] for rows in expected
    ]
    for rows, others in zip(found, expected, strict=True):
        np.testing.assert_allclose([row.similarity for row in rows], [row.similarity for row in others], atol=1e-6)


def engine_is_idle(store: Store, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a search is answered without the engine's own, which walks over the rows."""
    asked: list[Call] = []

    def by_engine(_collection: object, call: Call) -> list[list[Row]]:
        asked.append(call)
        return []

    with monkeypatch.context() as patched:
        patched.setattr(embedded, "_by_engine", by_engine)
        store.searches.search(calls()[0], 10)
    return not asked


def searched_by_segment(store: Store) -> list[str]:
    """The ids of the rows that are searched without the engine's own search, in one look; none where it searches."""
    searches = store.searches
    segments = searches._segments(NAME, collection(store))  # type: ignore[attr-defined]
    return [id_ for segment in segments for id_ in segment.pks]


def becomes_idle(store: Store, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As `engine_is_idle`, in a while: Milvus Lite gives a new segment its index a moment later."""
    end = time.monotonic() + 10
    while not (idle := engine_is_idle(store, monkeypatch)) and time.monotonic() < end:
        time.sleep(0.01)
    return idle


@pytest.mark.parametrize("number", range(len(calls())))
def test_segment_by_segment_the_answers_are_the_engines(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    call = calls()[number]
    assert becomes_idle(store, monkeypatch)
    expected = embedded._by_engine(collection(store), call)
    assert_same(store.searches.search(call, 10), expected)
    assert any(expected) or 77 in call.cells


def test_what_is_deleted_is_not_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    call = calls()[0]
    gone = store.searches.search(call, 10)[0][0].id
    store.client.delete(NAME, ids=[gone])
    assert not engine_is_idle(store, monkeypatch)
    for _ in range(2):  # in memory, then in a file, which Milvus Lite may have merged with the others by then
        assert gone not in searched_by_segment(store)
        found = store.searches.search(replace(call, limit=2 * ROWS), 10)
        assert all(gone not in {row.id for row in rows} and len(rows) == ROWS - 1 for rows in found)
        flush(store, NAME)


def test_what_is_written_twice_is_found_once_as_it_was_written_last(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = replace(calls()[0], limit=2 * ROWS)
    before = {row.id: row.similarity for row in store.searches.search(call, 10)[0]}
    write(store, range(50), seed=2)
    assert not engine_is_idle(store, monkeypatch)
    for _ in range(2):  # in memory, then in a segment, which Milvus Lite may have merged with the others by then
        once = searched_by_segment(store)
        assert len(once) == len(set(once))
        found = store.searches.search(call, 10)[0]
        assert len(found) == len({row.id for row in found}) == ROWS
        changed = {row.id for row in found if abs(row.similarity - before[row.id]) > 1e-6}
        assert changed == {f"{number:04x}" for number in range(50)}
        flush(store, NAME)


def test_new_rows_are_found_before_and_after_they_are_in_a_segment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert becomes_idle(store, monkeypatch)
    write(store, range(ROWS, ROWS + 40), seed=1)
    call = replace(calls()[0], limit=2 * ROWS)
    assert not engine_is_idle(store, monkeypatch)
    assert [len(rows) for rows in store.searches.search(call, 10)] == [ROWS + 40] * 3
    flush(store, NAME)
    assert becomes_idle(store, monkeypatch)
    assert [len(rows) for rows in store.searches.search(call, 10)] == [ROWS + 40] * 3


def test_an_engine_that_has_changed_searches_by_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = store.searches.search(calls()[2], 10)
    monkeypatch.setattr(embedded, "_PARTS", (*embedded._PARTS, "_renamed"))
    assert not engine_is_idle(store, monkeypatch)
    assert_same(store.searches.search(calls()[2], 10), expected)
