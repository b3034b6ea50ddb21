"""Exact search in one version of the gallery."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofix.errors import DeadlineExceeded
from geofix.gallery.calls import Call, Row
from geofix.gallery.contents import Contents
from geofix.gallery.layout import GalleryInfo, partition_names
from geofix.gallery.narrowing import ANY, Narrowing
from geofix.gallery.store import CALL_TIMEOUT_S, Store

MOST_ROWS = 4096
"""Of one answer of Milvus, all vectors together: with the largest payloads 34 MB, which is under every server's limit."""
_TOO_SLOW = "too few of the images fulfil the conditions to find them in time: ask for less, or allow more time"
_SPARE, _FEWEST, _FACTOR = 2, 64, 8
_EARLY_S = 0.05

_NO_FIELDS: Mapping[str, str] = MappingProxyType({})

_Steps = Generator[Call, list[list[Row]], list[list[Row]]]
"""Yields calls, is sent what they found, and returns what belongs, a list a vector."""


class Hit(NamedTuple):
    """A gallery image near a query: its place in degrees, the inner product of the two embeddings, what was kept with it."""

    id: str
    cell_id: int
    lat: float
    lon: float
    similarity: float
    picture: str
    attribution: str
    fields: Mapping[str, str] = _NO_FIELDS


@dataclass(frozen=True)
class Scope:
    """Where to search and for how many: equal scopes share one call of Milvus.

    Attributes:
        cells: ids; empty: the whole gallery.
        k: most hits.
        narrowing: what else is asked of them.
    """

    cells: tuple[int, ...]
    k: int
    narrowing: Narrowing = ANY


class Gallery:
    """One loaded version of the gallery."""

    def __init__(self, store: Store, info: GalleryInfo) -> None:
        self._store = store
        self._counts: dict[int, int] = {}
        self.info = info

    def search(
        self,
        embedding: NDArray[np.float32],
        cells: Sequence[int],
        k: int,
        timeout_s: float = CALL_TIMEOUT_S,
        narrowing: Narrowing = ANY,
    ) -> list[Hit]:
        """The min(k, images that belong) images nearest to a unit embedding, shape (embedding_dim,).

        An image belongs if it is in one of `cells` (without cells, in any) and `narrowing` admits it. Exact: the index is FLAT.
        Most similar first; equal ones by id.

        Raises:
            Unavailable: GALLERY_UNAVAILABLE.
            DeadlineExceeded: so few of the rows belong that finding k took longer than `timeout_s`.
        """
        scope = Scope(tuple(cells), k, narrowing)
        steps, end = self._steps(scope, embedding[None]), time.monotonic() + timeout_s
        found: list[list[Row]] | None = None
        with self._store.errors():
            try:
                while True:
                    call = steps.send(found)  # type: ignore[arg-type]  # None starts it
                    found = self._store.searches.search(call, _left(end))
            except StopIteration as done:
                return _hits(done.value[0])
            except Exception as error:  # gRPC's, or pymilvus's, which is not imported before it is needed
                if _ran_out(found, end):
                    raise DeadlineExceeded(_TOO_SLOW) from error
                raise

    async def search_batch(
        self, queries: Sequence[tuple[NDArray[np.float32], Scope]], timeout_s: float
    ) -> list[list[Hit]]:
        """As `search` for several queries at once: those of one scope in one call of Milvus, the others beside one another."""
        groups: dict[Scope, list[int]] = {}
        for index, (_, scope) in enumerate(queries):
            groups.setdefault(scope, []).append(index)
        end = time.monotonic() + timeout_s
        found: list[list[Hit]] = [[] for _ in queries]

        async def run(scope: Scope, members: list[int]) -> None:
            rows = await self._run(scope, np.stack([queries[index][0] for index in members]), end)
            for index, mine in zip(members, rows, strict=True):
                found[index] = _hits(mine)

        with self._store.errors():
            if len(groups) == 1:
                await run(*next(iter(groups.items())))
            else:
                await asyncio.gather(*(run(scope, members) for scope, members in groups.items()))
        return found

    def counts(self, cells: Sequence[int]) -> dict[int, int]:
        """How many images each of some cells holds.

        Raises:
            Unavailable: GALLERY_UNAVAILABLE.
        """
        for cell in set(cells) - self._counts.keys():
            # A version that can be searched does not change, so each is counted once.
            self._counts[cell] = self._store.count(
                self.info.name, f"cell_id in [{cell}]", partition_names([cell], self.info.partitions)
            )
        return {cell: self._counts[cell] for cell in cells}

    async def _run(self, scope: Scope, vectors: NDArray[np.float32], end: float) -> list[list[Row]]:
        steps = self._steps(scope, vectors)
        found: list[list[Row]] | None = None
        try:
            while True:
                call = steps.send(found)  # type: ignore[arg-type]  # None starts it
                found = await self._store.searches.search_async(call, _left(end))
        except StopIteration as done:
            result: list[list[Row]] = done.value
            return result
        except Exception as error:  # gRPC's, or pymilvus's, which is not imported before it is needed
            if _ran_out(found, end):
                raise DeadlineExceeded(_TOO_SLOW) from error
            raise

    def _steps(self, scope: Scope, vectors: NDArray[np.float32]) -> _Steps:
        """Fetches more than k where rows may have to be thrown away, and more again until k are left or there are no more."""
        narrowing, cells = scope.narrowing, tuple(sorted(set(scope.cells)))
        condition = narrowing.expression()
        where = Call(
            self.info.name,
            vectors,
            scope.k if narrowing.in_milvus else min(MOST_ROWS, max(_FEWEST, _SPARE * scope.k)),
            cells,
            tuple(partition_names(cells, self.info.partitions)),
            f"({condition})" if condition else "",
        )
        results: list[list[Row]] = [[] for _ in vectors]
        waiting, limit = list(range(len(vectors))), where.limit
        while waiting:
            at_once, unfinished = max(1, MOST_ROWS // limit), []
            for first in range(0, len(waiting), at_once):
                part = waiting[first : first + at_once]
                found = yield replace(where, vectors=vectors[part], limit=limit)
                for index, rows in zip(part, found, strict=True):
                    results[index] = _best(rows, scope)
                    if len(results[index]) < scope.k and _may_have_more(rows, limit, narrowing):
                        if limit < MOST_ROWS:
                            unfinished.append(index)
                        else:
                            results[index] = yield from _all_of(replace(where, vectors=vectors[[index]]), rows, scope)
            if narrowing.in_milvus:
                break
            waiting, limit = unfinished, min(MOST_ROWS, limit * _FACTOR)
        return results

    def thumbnails(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The thumbnails, JPEG, of those of some images that have one.

        Raises:
            Unavailable: GALLERY_UNAVAILABLE.
        """
        return Contents(self._store, self.info).pictures(ids)


def _all_of(where: Call, rows: list[Row], scope: Scope) -> Generator[Call, list[list[Row]], list[Row]]:
    """The best of more rows than one answer may hold: of those with an id below the middle one of `rows`, and of the others.

    Each part holds half of `rows`, which the other then leaves out, so it ends.
    """
    middle = json.dumps(sorted(row.id for row in rows)[len(rows) // 2], ensure_ascii=False)
    best: list[Row] = []
    for side in (f"id < {middle}", f"id >= {middle}"):
        part = replace(where, filter=f"{where.filter} and {side}" if where.filter else side, limit=MOST_ROWS)
        (found,) = yield part
        if _may_have_more(found, MOST_ROWS, scope.narrowing) and len(_best(found, scope)) < scope.k:
            best += yield from _all_of(part, found, scope)
        else:
            best += _best(found, scope)
    return _ordered(best)[: scope.k]


def _best(rows: list[Row], scope: Scope) -> list[Row]:
    admitted = scope.narrowing.admits(rows)
    return _ordered([row for row, belongs in zip(rows, admitted, strict=True) if belongs])[: scope.k]


def _ordered(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (-row.similarity, row.id))


def _may_have_more(rows: list[Row], limit: int, narrowing: Narrowing) -> bool:
    return len(rows) >= limit and rows[-1].similarity >= narrowing.min_similarity


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(_TOO_SLOW)
    return left


def _ran_out(found: object, end: float) -> bool:
    """Whether a call failed for want of time after Milvus had answered before; one that it never answered is an outage.

    A server ends a call by its own clock, a little before ours does, with an error of its own.
    """
    return found is not None and time.monotonic() >= end - _EARLY_S


def _hits(rows: Sequence[Row]) -> list[Hit]:
    payloads = json.loads(f"[{','.join([row.payload for row in rows])}]")  # in one go: in half of the time
    return [
        Hit(
            id=row.id,
            cell_id=row.cell_id,
            lat=row.lat,
            lon=row.lon,
            similarity=row.similarity,
            picture=str(payload.get("picture", "")),
            attribution=str(payload.get("attribution", "")),
            fields={str(name): str(value) for name, value in fields.items()}
            if (fields := payload.get("fields"))
            else _NO_FIELDS,
        )
        for row, payload in zip(rows, payloads, strict=True)
    ]
