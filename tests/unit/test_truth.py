"""Tables of truths: what people and spreadsheets write is read; what cannot be meant is refused with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.errors import InvalidInput
from geofix.truth import read_truth


def table(directory: Path, content: str | bytes) -> Path:
    path = directory / "truth.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InvalidInput, match=re.escape(str(path))) as caught:
        read_truth(path)
    return caught.value.message


def test_the_tables_order_is_kept(tmp_path: Path) -> None:
    found = read_truth(table(tmp_path, "file,lat,lon\nb.jpg,1.5,-2.5\na.jpg,-90,180\n"))
    assert list(found.items()) == [("b.jpg", (1.5, -2.5)), ("a.jpg", (-90.0, 180.0))]


@pytest.mark.parametrize(
    "content",
    [
        "file,lat,lon\r\na.jpg,1,2\r\n",
        "\ufefffile,lat,lon\na.jpg,1,2\n",
        "file, lat, lon\na.jpg, 1, 2\n",
        "lon,note,file,lat\n2,mine,a.jpg,1\n",
        'file,lat,lon\n"a.jpg","1","2"\n',
        "file,lat,lon\n\na.jpg,1.0,2e0\n\n",
        "file,lat,lon\na.jpg,1,2,more,than,asked\n",
        "file,lat,lon\na.jpg,1,2",
    ],
)
def test_what_spreadsheets_write(tmp_path: Path, content: str) -> None:
    assert read_truth(table(tmp_path, content)) == {"a.jpg": (1.0, 2.0)}


def test_names_may_hold_commas_quotes_and_any_script(tmp_path: Path) -> None:
    found = read_truth(table(tmp_path, 'file,lat,lon\n"a, ""b"".jpg",1,2\n東京.jpg,35.7,139.7\n'))
    assert list(found) == ['a, "b".jpg', "東京.jpg"]


def test_a_table_of_nothing_but_its_header_is_empty(tmp_path: Path) -> None:
    assert read_truth(table(tmp_path, "file,lat,lon\n")) == {}


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_every_place_on_earth_is_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, lat: float, lon: float
) -> None:
    path = table(tmp_path_factory.getbasetemp(), f"file,lat,lon\na.jpg,{lat!r},{lon!r}\n")
    assert read_truth(path) == {"a.jpg": (lat, lon)}


@pytest.mark.parametrize(
    ("rows", "line", "problem"),
    [
        ("a.jpg,north,2\n", 2, "lat is 'north', not a number of degrees"),
        ("a.jpg,1,\n", 2, "lon is '', not a number of degrees"),
        ("a.jpg,1\n", 2, "lon is None, not a number of degrees"),
        ("a.jpg,nan,2\n", 2, "lat is 'nan', not a number of degrees"),
        ("a.jpg,1,-inf\n", 2, "lon is '-inf', not a number of degrees"),
        ("a.jpg,1,2\nb.jpg,90.001,2\n", 3, "lat is 90.001, beyond ±90 degrees; are lat and lon swapped?"),
        ("a.jpg,1,2\nb.jpg,1,-180.5\n", 3, "lon is -180.5, beyond ±180 degrees"),
        ("a.jpg,1,2\n\n,1,2\n", 4, "no file is named"),
        ("a.jpg,1,2\n  ,1,2\n", 3, "no file is named"),
        ("a.jpg,1,2\nb.jpg,1,2\na.jpg,1,2\n", 4, "a.jpg was named before"),
        ("a.jpg,1,2\n a.jpg ,3,4\n", 3, "a.jpg was named before"),
        ("a.jpg,12°30',2\n", 2, "not a number of degrees"),
    ],
)
def test_what_cannot_be_meant_names_its_line(tmp_path: Path, rows: str, line: int, problem: str) -> None:
    message = refusal(table(tmp_path, "file,lat,lon\n" + rows))
    assert f", line {line}: " in message
    assert problem in message


def test_only_a_latitude_asks_whether_they_are_swapped(tmp_path: Path) -> None:
    assert "swapped" not in refusal(table(tmp_path, "file,lat,lon\na.jpg,1,200\n"))


@pytest.mark.parametrize(
    ("content", "missing", "named"),
    [
        ("", "file, lat, lon", "nothing"),
        ("file,lat\na.jpg,1\n", "lon", "file, lat"),
        ("name,latitude,lon\na.jpg,1,2\n", "file, lat", "name, latitude, lon"),
        ("file;lat;lon\na.jpg;1;2\n", "file, lat, lon", "file;lat;lon"),
    ],
)
def test_a_missing_column_is_named_beside_those_that_are_there(
    tmp_path: Path, content: str, missing: str, named: str
) -> None:
    message = refusal(table(tmp_path, content))
    assert f"has no column {missing}: " in message
    assert message.endswith(f"it names {named}")


@pytest.mark.parametrize(
    "content",
    [b"file,lat,lon\n\xe9t\xe9.jpg,1,2\n", "file,lat,lon\na.jpg,1,2\n".encode("utf-16"), b"\xff\xd8\xff\xe0" * 50],
)
def test_what_is_not_utf8_is_said_to_be_so(tmp_path: Path, content: bytes) -> None:
    assert "not a CSV file in UTF-8" in refusal(table(tmp_path, content))


def test_a_field_without_end_is_refused(tmp_path: Path) -> None:
    assert "not a CSV file" in refusal(table(tmp_path, 'file,lat,lon\n"' + "a" * 200_000))


def test_a_table_that_is_not_there_or_a_directory(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "none.csv")
    assert "cannot be read: Is a directory" in refusal(tmp_path)
