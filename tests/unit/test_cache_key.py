"""The key of a cached answer depends on every part, on their order, and on where one ends and the next begins."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.area import Circle
from geofix.decision import Strategy
from geofix_gateway.cache import cache_key
from geofix_gateway.locate import Options

PARTS = [b"image", b"some bytes", b"options", b"tiny@0", b"gallery_tiny_0"]


def test_it_is_the_same_every_time_and_fit_for_redis() -> None:
    assert cache_key(*PARTS) == cache_key(*PARTS)
    assert re.fullmatch(r"geofix:answer:[0-9a-f]{64}", cache_key(*PARTS))


@pytest.mark.parametrize("index", range(len(PARTS)))
@pytest.mark.parametrize("change", [b"", b"other", b"\0"])
def test_every_part_matters(index: int, change: bytes) -> None:
    changed = [*PARTS]
    changed[index] += change or b"+"
    assert cache_key(*changed) != cache_key(*PARTS)
    changed[index] = change
    assert cache_key(*changed) != cache_key(*PARTS)


def test_parts_cannot_run_together() -> None:
    keys = [
        cache_key(b"ab", b"c"),
        cache_key(b"a", b"bc"),
        cache_key(b"abc"),
        cache_key(b"", b"abc"),
        cache_key(b"abc", b""),
        cache_key(b"c", b"ab"),
        cache_key(b"a" + (1).to_bytes(8, "little") + b"b"),  # what hashing the length of the second alone would confuse
        cache_key(b"a", b"b"),
    ]
    assert len(set(keys)) == len(keys)


@given(st.lists(st.binary(max_size=20), max_size=5), st.lists(st.binary(max_size=20), max_size=5))
def test_keys_are_equal_where_all_parts_are(first: list[bytes], second: list[bytes]) -> None:
    assert (cache_key(*first) == cache_key(*second)) is (first == second)


@given(st.binary(max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_where_one_text_is_cut_matters(text: bytes, one: int, other: int) -> None:
    cuts = {min(one, len(text)), min(other, len(text))}
    assert len({cache_key(text[:at], text[at:]) for at in cuts}) == len(cuts)


def test_every_option_changes_the_text_that_is_hashed() -> None:
    others = {
        "strategy": Strategy.SWC,
        "probabilities": (0.5,),
        "max_neighbors": 1,
        "max_cells": 1,
        "max_alternatives": 1,
        "bypass_cache": True,
        "allow_degraded": True,
        "area": Circle(1.0, 2.0, 3.0),
        "max_density_cells": 1,
    }
    assert set(others) == {field.name for field in fields(Options)}
    texts = {repr(Options(**{name: value})) for name, value in others.items()}  # type: ignore[arg-type]
    assert len(texts | {repr(Options())}) == len(others) + 1
