"""How far `geofix gallery` says that it is where nobody sees a bar, and what it makes of a disk that is full."""

from __future__ import annotations

import time

import pytest
from pymilvus import MilvusException

from geofix.cli.gallery_session import Steps
from geofix.errors import Overloaded, Reason, Unavailable
from geofix.gallery.store import Store


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (1_000, "adding: 220 of 1,000, 20.0 a second, 39 s left\n"),
        (0, "adding: 220, 20.0 a second\n"),  # shards: nobody knows how many images they hold
    ],
)
def test_rate_and_time_left(
    total: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    steps = Steps("adding")
    steps(1, total)
    now[0] += 11
    steps(220, total)
    steps(221, total)  # ten seconds later at the earliest
    steps.close()
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("message", "kind", "reason"),
    [
        ("disk quota exhausted, please allocate more resources", Overloaded, Reason.STORAGE_FULL),
        ("write /data/1: No space left on device", Overloaded, Reason.STORAGE_FULL),
        ("server is not serving", Unavailable, Reason.GALLERY_UNAVAILABLE),
    ],
)
def test_what_a_server_says_of_its_disk(message: str, kind: type[Unavailable | Overloaded], reason: Reason) -> None:
    store = object.__new__(Store)
    store.name = "http://milvus:19530"
    with pytest.raises(kind) as caught, store.errors():
        raise MilvusException(code=1, message=message)
    assert caught.value.reason is reason
