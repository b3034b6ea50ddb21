"""What a gallery's collection says about itself, how many partitions it has, and what is said of where it lies."""

from __future__ import annotations

import pytest

from geofix.errors import MismatchError
from geofix.gallery.layout import FORMAT, GalleryInfo, partition_count, partition_name
from geofix.gallery.store import redacted


def test_redacted_leaves_paths_alone() -> None:
    assert redacted("/data/a@b?c") == "/data/a@b?c"
    assert redacted("https://u:p@host:19530/db?x=1") == "https://host:19530/db"  # pragma: allowlist secret


def test_a_collection_of_something_else_is_no_gallery() -> None:
    with pytest.raises(MismatchError, match="gallery format"):
        GalleryInfo.from_properties("other", {"collection.ttl.seconds": "5"})
    with pytest.raises(MismatchError, match="does not say"):
        GalleryInfo.from_properties("other", {"geofix.format": FORMAT, "geofix.images": "many"})


@pytest.mark.parametrize(
    ("rows", "on_lite", "on_server"),
    [(1, 64, 64), (25_601, 128, 64), (100_000, 256, 64), (1_000_000, 1023, 128), (10**8, 1023, 1023)],
)
def test_partitions_follow_the_rows(rows: int, on_lite: int, on_server: int) -> None:
    assert (partition_count(rows, many=True), partition_count(rows, many=False)) == (on_lite, on_server)
    assert partition_name(on_lite + 5, on_lite) == "p5"
