"""A source in parts says what the whole says, in the same order; claims of parts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geofix.cli.gallery_access import ray_cluster
from geofix.errors import ConfigurationError, InvalidInput, Overloaded, Reason
from geofix.ingest.add import AddOptions
from geofix.ingest.claims import Book, OwnClaims
from geofix.ingest.items import Item, Skipped, Why
from geofix.ingest.on_ray import FAILURES, REPORTS, SOURCES, Failure, RayAdder
from geofix.ingest.parts import Files
from geofix.ingest.report import Report
from geofix.ingest.sources import Columns, Source
from geofix.ingest.split import split

UNUSED: Any = None


def in_parts(source: Source, images: int) -> tuple[list[Item | Skipped], int]:
    parts = list(split(source, images))
    return [item for part in parts for item in part.items()], len(parts)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv(tmp_path: Path, mark: bytes, end: str) -> None:
    rows = [f'{number}.jpg, {number}, {-number},"Bild № {number}{end}, ""quoted"""' for number in range(10)]
    rows[3:3] = ["", "a.jpg,95,1,x", "b.jpg,1,2,x,too,many"]
    path = tmp_path / "t.csv"
    path.write_bytes(mark + end.join(["file,lat,lon,title", *rows]).encode())
    source = Source(path)
    whole = list(source.items())
    assert len(whole) == 12
    assert sum(isinstance(item, Skipped) for item in whole) == 2
    for images in (1, 3, 100):
        found, parts = in_parts(source, images)
        assert found == whole  # the lines that are named too
        assert parts == -(-13 // images)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"file": [f"{n}.jpg" for n in range(700)], "lat": [95.0] + [1.0] * 699, "lon": [2.0] * 700})
    pq.write_table(table, path, row_group_size=500)
    found, parts = in_parts(Source(path), 300)
    assert found == list(Source(path).items())
    assert parts == 3


def test_a_directory_and_shards(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.txt", "b/3.png", ".hidden/4.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found, parts = in_parts(Source(tmp_path), 2)
    assert found == list(Source(tmp_path).items())
    assert (len(found), parts) == (3, 2)
    for name in ("x.tar", "y.tar"):
        (tmp_path / name).write_bytes(b"damaged")
    found, parts = in_parts(Source(tmp_path), 2)
    assert found == list(Source(tmp_path).items())
    assert parts == 2


@pytest.mark.parametrize("name", ["absent.csv", "t.txt", "no-columns.csv", "binary.csv"])
def test_what_cannot_be_read_is_said_before_any_worker_starts(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.txt").write_text("x")
    (tmp_path / "no-columns.csv").write_text("a,b\n1,2\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput):
        list(split(Source(tmp_path / name), 10))


def test_what_a_part_has_claimed_is_free_when_it_begins_again() -> None:
    book = Book()
    book.begin(0)
    book.begin(1)
    assert book.claim(0, {"a": (1.0, 2.0), "b": (1.0, 2.0)}) == {}
    assert book.claim(1, {"a": (3.0, 4.0), "c": (5.0, 6.0)}) == {"a": (1.0, 2.0)}
    book.begin(0)  # its worker died
    assert book.claim(1, {"b": (7.0, 8.0)}) == {}
    assert book.claim(0, {"b": (1.0, 2.0), "c": (1.0, 2.0)}) == {"b": (7.0, 8.0), "c": (5.0, 6.0)}
    book.release(1, ["b"])
    assert book.claim(0, {"b": (1.0, 2.0)}) == {}


@pytest.mark.parametrize(
    ("options", "ray", "said"),
    [
        (AddOptions(), None, r"pip install 'geofix\[gallery,ray\]'"),
        (AddOptions(near_bits=4), object(), "use --engine plain"),
    ],
)
def test_what_ray_cannot_do_is_said_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, options: AddOptions, ray: object, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(ConfigurationError, match=said):
        RayAdder(UNUSED, UNUSED, options).run("version", Source(Path("absent")))


def test_a_lite_directory_is_not_for_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GEOFIX_MILVUS_URI", raising=False)
    with pytest.raises(ConfigurationError, match="cannot share a Milvus Lite directory: start `geofix up`"):
        ray_cluster(UNUSED, "", tmp_path, "", "", 2)


def test_what_travels_between_driver_and_workers_arrives_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("f,lat,lon\na,1,2\n")
    pq.write_table(pa.table({"file": ["a"], "lat": [1.0], "lon": [2.0]}), tmp_path / "t.parquet")
    directory = Source(tmp_path, part=Files(("a", "b")))
    for source in (
        *split(Source(tmp_path / "t.csv", tmp_path, Columns("f")), 9),
        *split(Source(tmp_path / "t.parquet"), 9),
        directory,
    ):
        assert SOURCES.validate_json(SOURCES.dump_json(source)) == source
    report = Report("v", 3, 1, 2, 0.5)
    report.skip(Skipped("a", Why.TWICE, "b"))
    assert REPORTS.validate_json(REPORTS.dump_json(report)) == report
    error = Overloaded("full", Reason.STORAGE_FULL, {"a": "b"})
    found = FAILURES.validate_json(FAILURES.dump_json(Failure.of(error))).error()
    assert (type(found), found.message, found.reason, found.metadata) == (
        Overloaded,
        "full",
        Reason.STORAGE_FULL,
        {"a": "b"},
    )


def test_claims_of_one_process() -> None:
    claims = OwnClaims()
    assert claims.claim({"a": (1.0, 2.0)}) == {}
    assert claims.claim({"a": (3.0, 4.0), "b": (3.0, 4.0)}) == {"a": (1.0, 2.0)}
    claims.release(["a", "absent"])
    assert claims.claim({"a": (3.0, 4.0), "b": (5.0, 6.0)}) == {"b": (3.0, 4.0)}


def test_reports_are_merged() -> None:
    one, other = Report(added=3), Report(added=2, already_there=1, set_aside=1)
    one.skip(Skipped("a", Why.TWICE))
    other.skip(Skipped("b", Why.TWICE))
    other.skip(Skipped("c", Why.NO_FILE))
    other.skipped[Why.NO_FILE] += 5  # more than are listed
    one.merge(other)
    assert (one.added, one.already_there, one.set_aside) == (5, 1, 1)
    assert dict(one.skipped) == {Why.TWICE: 2, Why.NO_FILE: 6}
    assert [skipped.name for skipped in one.listed] == ["a", "b", "c"]
