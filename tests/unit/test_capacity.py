"""The capacity planner: textbook values of the queue, and plans that react as they must."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from command import geofix
from geofix.capacity import BUSY, LEAST_REPLICAS, SERVICES, Demand, Figures, erlang_c, measured, plan, wait_p99_s
from geofix.errors import InvalidInput

FIGURES = Figures(
    core_s={"gateway": 0.002, "classifier": 0.05, "embedder": 0.002, "retrieval": 0.01},
    memory_mib=dict.fromkeys(SERVICES, 256.0),
    latency_p99_s=0.1,
    row_s=1e-7,
    rows_searched=1_000,
    cells_searched=5,
    embedding_dim=256,
)
DEMAND = Demand(qps=50, gallery=1_000_000, p99_s=0.5)


@pytest.mark.parametrize(
    ("servers", "erlangs", "waits"),
    [
        (1, 0.5, 0.5),
        (2, 1.0, 1 / 3),
        (3, 2.0, 4 / 9),
        (5, 4.0, 0.5541),
    ],  # one server: its load; the others by the formula
)
def test_erlang_c(servers: int, erlangs: float, waits: float) -> None:
    assert erlang_c(servers, erlangs) == pytest.approx(waits, abs=1e-4)


def test_the_wait_of_one_server_is_the_textbook_s() -> None:
    # M/M/1: P(wait > t) = ρ·exp(-(μ - λ)t)
    assert wait_p99_s(5.0, 0.1, 1) == pytest.approx(0.7824, abs=1e-4)  # ln(0.5 / 0.01) / (10 - 5)
    assert wait_p99_s(0.05, 0.1, 1) == 0.0  # fewer than one call in a hundred waits
    assert wait_p99_s(0.0, 0.1, 1) == 0.0


def test_a_plan_is_within_its_limits_and_grows_with_what_is_asked() -> None:
    made = plan(FIGURES, DEMAND, 128)
    assert made.p99_s <= DEMAND.p99_s
    assert made.parts["classifier"].replicas == 2
    assert all(part.busy <= BUSY and part.replicas >= LEAST_REPLICAS for part in made.parts.values())
    assert made.cores == sum(part.replicas for part in made.parts.values()) * 2
    assert made.milvus_gib == pytest.approx(1_000_000 * 1_400 / 2**30 / 0.7)
    assert made.milvus_gib_replacing == 2 * made.milvus_gib
    more = plan(FIGURES, replace(DEMAND, qps=500), 128)
    assert more.parts["classifier"].replicas >= 500 * 0.05 / (0.7 * 2)
    tight = plan(FIGURES, replace(DEMAND, p99_s=0.2), 128)
    assert tight.p99_s <= 0.2
    assert tight.cores > made.cores
    cached = plan(FIGURES, replace(DEMAND, qps=500, cache_hits=0.9), 128)
    assert cached.parts["classifier"].replicas == made.parts["classifier"].replicas
    assert cached.parts["gateway"].replicas == more.parts["gateway"].replicas


def test_a_larger_gallery_costs_memory_and_search() -> None:
    small, large = plan(FIGURES, DEMAND, 128), plan(FIGURES, replace(DEMAND, gallery=10_000_000), 1024)
    assert large.milvus_gib == pytest.approx(10 * small.milvus_gib)
    assert large.parts["retrieval"].busy > small.parts["retrieval"].busy


@pytest.mark.parametrize(
    "wrong",
    [
        {"qps": 0},
        {"qps": float("nan")},
        {"gallery": -1},
        {"p99_s": 0.0},
        {"p99_s": 0.05},
        {"cache_hits": 1.0},
        {"cores": 0},
    ],
)
def test_what_cannot_be_planned_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        plan(FIGURES, replace(DEMAND, **wrong), 128)  # type: ignore[arg-type]


def test_the_command_plans_from_the_figures_that_ship() -> None:
    assert measured().core_s.keys() == set(SERVICES)
    asked = ("plan", "--qps", "20", "--gallery", "1000000", "--p99", "5")
    shown, record = geofix(*asked), json.loads(geofix(*asked, "--json").out)
    for name in SERVICES:
        assert str(record["services"][name]["replicas"]) in shown.row(name).split()
    assert record["figures"]["command"] in shown.out
    refused = geofix("plan", "--qps", "20", "--gallery", "1000000", "--p99", "0.001")
    assert (refused.code, "ask for more time" in refused.err) == (2, True)
