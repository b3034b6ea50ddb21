"""The request walk alone, over services that are a few lines each."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle_factory import RULE, make_bundle
from geofix.area import Area
from geofix.bundle import Bundle
from geofix.decision import Decision, Method, SearchPlan, Strategy, decide
from geofix.errors import (
    DeadlineExceeded,
    GeofixError,
    InvalidInput,
    MismatchError,
    NotFound,
    Overloaded,
    Reason,
    Unavailable,
)
from geofix.geo import haversine_km, latlon_to_xyz, xyz_to_latlon
from geofix.posterior import CellScores, Neighbors
from geofix_gateway import locate
from geofix_gateway.locate import NOTHING_FOUND, Classified, Deadline, Found, Locator, Options, Source

LIVE = "gallery_tiny_of_another_day"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


class Clock:
    """A deadline that loses a second each time it is asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        self.seconds -= 1
        return self.seconds


class InMemory:
    """Services that answer with what they were given, and remember what they were asked."""

    def __init__(self, bundle: Bundle, found: Found = NOTHING_FOUND, domain_score: float = 1.0) -> None:
        means = bundle.cells.xyz
        towards = 12.0 * means @ latlon_to_xyz(48.0, 11.0)
        self.scores = CellScores.best_of(towards - np.log(np.exp(towards).sum()), means, domain_score, 64)
        self.found = found
        self.failures: dict[str, GeofixError] = {}
        self.asked: list[tuple[str, object, Deadline]] = []
        self.left: list[float] = []
        self.embedding = b""

    def _note(self, name: str, what: object, left: Deadline) -> None:
        self.asked.append((name, what, left))
        self.left.append(left())
        if name in self.failures:
            raise self.failures[name]

    async def classify(self, source: Source, left: Deadline, max_cells: int) -> Classified:
        self._note("classify", source, left)
        return Classified(self.scores, b"the feature", {"preprocess": 2.0, "inference": 3.0}, self.embedding)

    async def embed(self, feature: bytes, left: Deadline) -> bytes:
        self._note("embed", feature, left)
        return b"the embedding"

    async def search(
        self, embedding: bytes, search: SearchPlan, area: Area | None, gallery_version: str, left: Deadline
    ) -> Found:
        self._note("search", (embedding, search, gallery_version), left)
        return self.found


def found_at(*places: tuple[float, float], cell: int) -> Found:
    lat, lon = zip(*places, strict=True)
    count = len(places)
    neighbors = Neighbors(np.full(count, cell, np.int32), latlon_to_xyz(lat, lon), np.linspace(0.99, 0.9, count))
    return Found(neighbors, tuple(f"id{i}" for i in range(count)), ("",) * count, ("",) * count)


IMAGE = Source(image=b"an image")


async def test_each_service_gets_what_the_one_before_gave(bundle: Bundle) -> None:
    services = InMemory(bundle)
    clock = Clock(100)
    await Locator(bundle, services).locate(IMAGE, Options(), LIVE, clock)
    cells = tuple(services.scores.cell_id[: RULE.cells].tolist())
    assert [(name, what) for name, what, _ in services.asked] == [
        ("classify", IMAGE),
        ("embed", b"the feature"),
        ("search", (b"the embedding", SearchPlan(cells, RULE.k), LIVE)),
    ]


async def test_a_classifier_that_embeds_too_saves_the_call_of_the_embedder(bundle: Bundle) -> None:
    services = InMemory(bundle)
    services.embedding = b"the classifier's"
    services.failures["embed"] = Unavailable("the embedder is down")
    answer = await Locator(bundle, services).locate(IMAGE, Options(), LIVE, Clock(100))
    assert [name for name, _, _ in services.asked] == ["classify", "search"]
    assert services.asked[1][1] == (
        b"the classifier's",
        SearchPlan(tuple(services.scores.cell_id[: RULE.cells].tolist()), RULE.k),
        LIVE,
    )
    assert answer.degraded is None
    assert "embed" not in answer.timing_ms


async def test_decisions_are_made_in_threads_where_other_requests_would_wait(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_loop: list[bool] = []

    def watched(*arguments: Any) -> Decision:
        in_loop.append(threading.current_thread() is threading.main_thread())
        return decide(*arguments)

    class Together(InMemory):
        barrier = asyncio.Barrier(1)

        async def search(self, *arguments: Any) -> Found:
            await self.barrier.wait()
            return await super().search(*arguments)

    monkeypatch.setattr(locate, "decide", watched)
    services = Together(bundle)
    locator = Locator(bundle, services)
    await locator.locate(IMAGE, Options(), LIVE, Clock(100))
    assert in_loop == [True]
    services.barrier = asyncio.Barrier(2)
    await asyncio.gather(*(locator.locate(IMAGE, Options(), LIVE, Clock(100)) for _ in range(2)))
    assert False in in_loop[1:]


async def test_the_deadline_is_handed_on_to_each_and_never_begins_anew(bundle: Bundle) -> None:
    services = InMemory(bundle)
    clock = Clock(10)
    await Locator(bundle, services).locate(IMAGE, Options(), LIVE, clock)
    assert all(left is clock for _, _, left in services.asked)
    assert services.left == [9, 8, 7]


async def test_cells_without_an_image_give_the_best_cells_mean_and_say_so(bundle: Bundle) -> None:
    services = InMemory(bundle)
    answer = await Locator(bundle, services).locate(IMAGE, Options(), bundle.gallery_version, Clock(10))
    assert answer.decision.method is Method.CELL_MEAN
    assert answer.decision.xyz == pytest.approx(bundle.cells.xyz[services.scores.cell_id[0]])
    assert len(answer.found.neighbors) == 0
    assert answer.decision.clusters == ()
    assert answer.gallery_version == bundle.gallery_version  # it was searched, and held nothing
    assert answer.localizable
    assert [probability for probability, _ in answer.radii_km] == [0.5, 0.9]


async def test_evidence_is_preferred_to_the_cells_mean(bundle: Bundle) -> None:
    services = InMemory(bundle)
    best = int(services.scores.cell_id[0])
    mean = xyz_to_latlon(bundle.cells.xyz[best])
    services.found = found_at((40.0, 20.0), (40.2, 20.1), (40.1, 19.9), cell=best)
    answer = await Locator(bundle, services).locate(IMAGE, Options(), LIVE, Clock(10))
    assert answer.decision.method is Method.CELL_SEARCH
    place = xyz_to_latlon(answer.decision.xyz)
    assert float(haversine_km(*place, 40.1, 20.0)) < 30
    assert float(haversine_km(*place, *mean)) > 100
    assert answer.found is services.found


async def test_classification_asks_no_more_than_the_classifier(bundle: Bundle) -> None:
    services = InMemory(bundle)
    options = Options(strategy=Strategy.CLASSIFICATION)
    answer = await Locator(bundle, services).locate(IMAGE, options, bundle.gallery_version, Clock(10))
    assert [name for name, _, _ in services.asked] == ["classify"]
    assert answer.decision.method is Method.CELL_MEAN
    assert answer.gallery_version == ""
    assert set(answer.timing_ms) == {"classify", "preprocess", "inference", "aggregate"}


@pytest.mark.parametrize(
    ("strategy", "cells", "k"),
    [(Strategy.SWC, 1, RULE.swc_k), (Strategy.RETRIEVAL, 0, RULE.swc_k), (Strategy.POSTERIOR, RULE.cells, RULE.k)],
)
async def test_each_strategy_searches_where_it_should(bundle: Bundle, strategy: Strategy, cells: int, k: int) -> None:
    services = InMemory(bundle)
    await Locator(bundle, services).locate(IMAGE, Options(strategy=strategy), LIVE, Clock(10))
    name, asked, _ = services.asked[-1]
    assert name == "search"
    assert asked == (b"the embedding", SearchPlan(tuple(services.scores.cell_id[:cells].tolist()), k), LIVE)


@pytest.mark.parametrize(
    ("strategy", "version", "calibrated"),
    [
        (Strategy.POSTERIOR, "the bundle's", True),
        (Strategy.POSTERIOR, LIVE, False),
        (Strategy.SWC, "the bundle's", False),
        (Strategy.RETRIEVAL, "the bundle's", False),
        (Strategy.CLASSIFICATION, "the bundle's", False),
    ],
)
async def test_radii_belong_to_one_strategy_and_one_gallery(
    bundle: Bundle, strategy: Strategy, version: str, calibrated: bool
) -> None:
    locator = Locator(bundle, InMemory(bundle))
    gallery = bundle.gallery_version if version == "the bundle's" else version
    answer = await locator.locate(IMAGE, Options(strategy=strategy), gallery, Clock(10))
    assert answer.calibrated is locator.is_calibrated(strategy, gallery) is calibrated
    assert bool(answer.radii_km) is calibrated


async def test_a_bundle_without_calibration_gives_no_radius_and_refuses_nothing(tmp_path: Path) -> None:
    whole = make_bundle(tmp_path)
    entries = {name: entry for name, entry in whole.manifest.files.items() if name != "calibration.json"}
    bundle = Bundle(whole.directory, whole.manifest.model_copy(update={"files": entries}))
    services = InMemory(bundle, domain_score=0.0)
    answer = await Locator(bundle, services).locate(IMAGE, Options(), bundle.gallery_version, Clock(10))
    assert answer.localizable
    assert not answer.calibrated
    assert answer.radii_km == ()


async def test_what_cannot_be_placed_has_no_radii(bundle: Bundle) -> None:
    services = InMemory(bundle, domain_score=0.1)
    answer = await Locator(bundle, services).locate(IMAGE, Options(), bundle.gallery_version, Clock(10))
    assert not answer.localizable
    assert answer.calibrated
    assert answer.radii_km == ()
    assert np.linalg.norm(answer.decision.xyz) == pytest.approx(1)


async def test_radii_are_those_asked_for_in_their_order(bundle: Bundle) -> None:
    options = Options(probabilities=(0.95, 0.5, 0.8))
    answer = await Locator(bundle, InMemory(bundle)).locate(IMAGE, options, bundle.gallery_version, Clock(10))
    assert [probability for probability, _ in answer.radii_km] == [0.95, 0.5, 0.8]
    assert [km for _, km in answer.radii_km] == pytest.approx([1500, 500, 800])


@pytest.mark.parametrize(
    ("failing", "error", "reached"),
    [
        ("classify", InvalidInput("no image", Reason.IMAGE_UNREADABLE), ["classify"]),
        ("embed", Unavailable("the embedder is away"), ["classify", "embed"]),
        ("search", NotFound("no such gallery"), ["classify", "embed", "search"]),
    ],
)
async def test_a_failure_ends_the_walk_and_arrives_as_it_was(
    bundle: Bundle, failing: str, error: GeofixError, reached: list[str]
) -> None:
    services = InMemory(bundle)
    services.failures[failing] = error
    with pytest.raises(type(error)) as raised:
        await Locator(bundle, services).locate(IMAGE, Options(), LIVE, Clock(10))
    assert raised.value is error
    assert [name for name, _, _ in services.asked] == reached


@pytest.mark.parametrize("failing", ["embed", "search"])
@pytest.mark.parametrize(
    "error",
    [
        Unavailable("retrieval is away"),
        Unavailable("no gallery", Reason.GALLERY_UNAVAILABLE),
        DeadlineExceeded("retrieval is slow"),
    ],
)
async def test_a_client_that_allows_it_gets_the_cells_mean_where_nothing_can_be_searched(
    bundle: Bundle, failing: str, error: GeofixError
) -> None:
    services = InMemory(bundle)
    services.failures[failing] = error
    options = Options(allow_degraded=True)
    answer = await Locator(bundle, services).locate(IMAGE, options, bundle.gallery_version, Clock(10))
    assert answer.degraded is error
    assert answer.decision.method is Method.CELL_MEAN
    assert answer.decision.xyz == pytest.approx(bundle.cells.xyz[services.scores.cell_id[0]])
    assert answer.gallery_version == ""  # nothing was searched
    assert answer.localizable
    assert not answer.calibrated
    assert answer.radii_km == ()


@pytest.mark.parametrize(
    ("failing", "error", "seconds"),
    [
        ("classify", Unavailable("the classifier is away"), 10),
        ("search", NotFound("no such gallery"), 10),
        ("search", Overloaded("busy"), 10),
        ("search", MismatchError("another bundle"), 10),
        ("search", DeadlineExceeded("no time left"), 3),
    ],
)
async def test_nothing_else_is_degraded(bundle: Bundle, failing: str, error: GeofixError, seconds: int) -> None:
    services = InMemory(bundle)
    services.failures[failing] = error
    options = Options(allow_degraded=True)
    with pytest.raises(type(error)) as raised:
        await Locator(bundle, services).locate(IMAGE, options, LIVE, Clock(seconds))
    assert raised.value is error


async def test_an_answer_that_was_searched_is_not_degraded(bundle: Bundle) -> None:
    services = InMemory(bundle)
    answer = await Locator(bundle, services).locate(IMAGE, Options(allow_degraded=True), LIVE, Clock(10))
    assert answer.degraded is None
    assert answer.gallery_version == LIVE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("probabilities", (0.49,)),
        ("probabilities", (0.96,)),
        ("probabilities", (float("nan"),)),
        ("probabilities", (0.5,) * 17),
        ("max_neighbors", -1),
        ("max_neighbors", 1001),
        ("max_cells", -1),
        ("max_cells", 65),
        ("max_alternatives", -1),
        ("max_alternatives", 101),
    ],
)
def test_an_option_out_of_range_cannot_be_made(name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as raised:
        Options(**{name: value})  # type: ignore[arg-type]
    assert raised.value.reason is Reason.OPTION_INVALID
    assert raised.value.metadata["option"] == {"probabilities": "radius_probabilities"}.get(name, name)


def test_options_at_the_ends_of_their_ranges_are_good() -> None:
    Options(probabilities=(0.5, 0.95) * 8, max_neighbors=1000, max_cells=64, max_alternatives=100)
    Options(probabilities=(), max_neighbors=0, max_cells=0, max_alternatives=0)
