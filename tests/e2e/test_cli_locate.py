"""`geofix locate` as people and scripts use it: a real process that asks a real platform."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import GEOFIX, PLACES, SECONDS, Ran, Record, Word, geofix
from geofix.bundle import Bundle
from geofix.geo import haversine_km, latlon_to_xyz
from geofix.places import describe
from geofix.platform.ports import free_ports
from image_factory import GREY, RGB, encoded, pattern, png, png_of_array
from platforms import clean_environment

pytestmark = pytest.mark.e2e


def test_the_table_says_place_radii_method_and_distance(server: str, photos: Path, located: Ran) -> None:
    ran = geofix("locate", "--server", server, *(photos / name for name in PLACES))
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out, "no colours where the output is not a terminal"
    assert "off by" in ran.out
    for name, record in zip(PLACES, located.records[:3], strict=True):
        row = ran.row(str(photos / name))
        assert describe(record["lat"], record["lon"]) in row
        assert "500 km, 1,000 km" in row
        assert "cell search" in row
        assert f"{record['distance_km']:,.0f} km" in row
        assert re.search(r"\d m?s *$", row)


def test_without_a_truth_there_is_no_distance(server: str, photos: Path, tmp_path: Path) -> None:
    alone = shutil.copy(photos / "alps.png", tmp_path)
    ran = geofix("locate", "--server", server, alone)
    assert ran.code == 0
    assert "off by" not in ran.out
    (record,) = geofix("locate", "--json", "--server", server, alone).records
    assert "distance_km" not in record


def test_json_is_one_object_a_photo_in_their_order(bundle: Bundle, photos: Path, located: Ran) -> None:
    assert (located.code, located.err) == (0, "")
    assert [record["file"] for record in located.records] == [str(photos / name) for name in [*PLACES, "grey.png"]]
    for record, place in zip(located.records, PLACES.values(), strict=False):
        assert record["localizable"] is True
        assert (record["radius_50_km"], record["radius_km"]) == (500, 1000)
        assert (record["method"], record["strategy"]) == ("cell_search", "posterior")
        assert record["place"] == describe(record["lat"], record["lon"])
        assert (record["model_version"], record["gallery_version"]) == (bundle.version, bundle.gallery_version)
        assert record["elapsed_ms"] > 0
        assert record["distance_km"] == pytest.approx(haversine_km(record["lat"], record["lon"], *place), abs=0.2)
        assert record["distance_km"] < 2000
        assert "alternatives" not in record


def test_out_of_domain_is_a_guess_without_radius(server: str, photos: Path, located: Ran) -> None:
    grey = located.records[-1]
    assert grey["localizable"] is False
    assert grey["radius_km"] is grey["radius_50_km"] is None
    assert -90 <= grey["lat"] <= 90
    assert -180 <= grey["lon"] <= 180
    ran = geofix("locate", "--server", server, photos / "grey.png")
    assert ran.code == 0, "not localizable is an answer"
    assert "not localizable" in ran.row("grey.png")
    assert "1,000 km" not in ran.out


@pytest.fixture(scope="module")
def troubled(server: str, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Files that cannot be answered, with good ones before, between and after them."""
    directory = tmp_path_factory.mktemp("troubled")
    (directory / "directory.jpg").mkdir()
    (directory / "empty.jpg").write_bytes(b"")
    (directory / "text.jpg").write_text("where was this taken?")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))
    whole = encoded(noise, "JPEG")
    (directory / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (directory / "bomb.png").write_bytes(png(20_000, 20_000, 1, GREY, bytes(2501 * 20_000)))
    (directory / "photo.gif").write_bytes(encoded(pattern(), "GIF"))
    good = photos / "alps.png"
    bad = [directory / name for name in TROUBLES if name != "unreachable.jpg"]
    unreachable = directory / ("d" * 300) / "unreachable.jpg"
    return geofix("locate", "--json", "--server", server, good, *bad[:3], good, *bad[3:], unreachable, good)


TROUBLES = {
    "missing.jpg": ("IMAGE_MISSING", "there is no such file"),
    "directory.jpg": ("IMAGE_MISSING", "there is no JPEG, PNG or WebP image in this folder"),
    "empty.jpg": ("IMAGE_EMPTY", "empty"),
    "text.jpg": ("IMAGE_UNREADABLE", "not a JPEG, PNG or WebP"),
    "truncated.jpg": ("IMAGE_UNREADABLE", "cannot be read"),
    "bomb.png": ("IMAGE_TOO_MANY_PIXELS", "20000 x 20000 pixels"),
    "photo.gif": ("IMAGE_FORMAT_UNSUPPORTED", "GIF images are not read"),
    "unreachable.jpg": ("IMAGE_MISSING", "File name too long"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_file_that_cannot_be_answered_says_why(troubled: Ran, name: str) -> None:
    reason, words = TROUBLES[name]
    (record,) = [record for record in troubled.records if Path(record["file"]).name == name]
    assert record["reason"] == reason
    assert words in record["error"]
    assert "lat" not in record
    assert f"{name}: {record['error']}" in troubled.err


def test_the_others_are_still_answered(troubled: Ran) -> None:
    assert troubled.code == 1
    assert len(troubled.err.splitlines()) == len(TROUBLES)
    answered = [position for position, record in enumerate(troubled.records) if "lat" in record]
    assert answered == [0, 4, len(TROUBLES) + 2]
    assert len({(troubled.records[position]["lat"], troubled.records[position]["lon"]) for position in answered}) == 1


def test_the_table_shows_what_was_answered_and_nothing_else(server: str, photos: Path, tmp_path: Path) -> None:
    ran = geofix("locate", "--server", server, tmp_path / "missing.jpg", photos / "alps.png")
    assert ran.code == 1
    assert "cell search" in ran.row("alps.png")
    assert "missing.jpg" not in ran.out
    assert "missing.jpg: there is no such file" in ran.err
    nothing = geofix("locate", "--server", server, tmp_path / "missing.jpg")
    assert (nothing.code, nothing.out) == (1, "")


SPOT, ELSEWHERE = (10.0, -70.0), (-30.0, 120.0)


def colour_of(lat: float, lon: float) -> tuple[int, int, int]:
    red, green, blue = np.round((latlon_to_xyz(lat, lon) + 1) * 127.5).astype(int).tolist()
    return red, green, blue


def photo_of(lat: float, lon: float) -> Image.Image:
    return Image.new("RGB", (64, 48), colour_of(lat, lon))


def kinds_of_files() -> dict[str, bytes]:
    """One place in every kind of file that can hold it."""
    photo, other = photo_of(*SPOT), photo_of(*ELSEWHERE)
    palette = Image.new("P", (64, 48), 1)
    palette.putpalette([*colour_of(*ELSEWHERE), *colour_of(*SPOT)])
    deep = np.full((48, 64, 3), colour_of(*SPOT), np.uint16) * 257
    return {
        "animated.webp": encoded(photo, "WEBP", save_all=True, append_images=[other], duration=100, lossless=True),
        "animated.png": encoded(photo, "PNG", save_all=True, append_images=[other], duration=100),
        "cmyk.jpg": encoded(photo.convert("CMYK"), "JPEG", quality=95),
        "16-bit.png": png_of_array(deep.astype(np.uint16), RGB),
        "palette-alpha.png": encoded(palette, "PNG", transparency=bytes([0, 255])),
        "rgba.png": encoded(photo.convert("RGBA"), "PNG"),
        "grey-l.png": encoded(Image.new("L", (64, 48), 201), "PNG"),
        "grey-rgb.png": encoded(Image.new("RGB", (64, 48), (201, 201, 201)), "PNG"),
    }


@pytest.fixture(scope="module")
def kinds(server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    directory = tmp_path_factory.mktemp("kinds")
    files = {"plain.png": encoded(photo_of(*SPOT), "PNG"), "elsewhere.png": encoded(photo_of(*ELSEWHERE), "PNG")}
    files |= kinds_of_files()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    ran = geofix("locate", "--json", "--server", server, *(directory / name for name in files))
    assert (ran.code, ran.err) == (0, "")
    return {Path(record["file"]).name: record for record in ran.records}


@pytest.mark.parametrize("name", ["animated.webp", "animated.png", "16-bit.png", "palette-alpha.png", "rgba.png"])
def test_a_photo_is_the_same_in_every_kind_of_file(kinds: dict[str, Record], name: str) -> None:
    assert (kinds[name]["lat"], kinds[name]["lon"]) == (kinds["plain.png"]["lat"], kinds["plain.png"]["lon"])
    assert kinds["plain.png"]["lat"] != kinds["elsewhere.png"]["lat"]


def test_cmyk_is_near_the_same(kinds: dict[str, Record]) -> None:
    plain, cmyk = kinds["plain.png"], kinds["cmyk.jpg"]
    assert float(haversine_km(plain["lat"], plain["lon"], cmyk["lat"], cmyk["lon"])) < 200


def test_greyscale_is_the_colour_that_it_shows(kinds: dict[str, Record]) -> None:
    grey, colour = kinds["grey-l.png"], kinds["grey-rgb.png"]
    assert grey["localizable"]
    assert (grey["lat"], grey["lon"]) == (colour["lat"], colour["lon"])


def test_odd_names_are_files_like_any_other(server: str, photos: Path, tmp_path: Path) -> None:
    names = [b"caf\xe9.png", b"two\nlines.png", b"-dash.png", "東京 [1].png".encode(), b"\x1b[31mred.png"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes((photos / "alps.png").read_bytes())
    ran = geofix("locate", "--json", "--server", server, "--", *names, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    shown = ["caf?.png", "two?lines.png", "-dash.png", "東京 [1].png", "?[31mred.png"]
    assert [record["file"] for record in ran.records] == shown
    table = geofix("locate", "--server", server, "--", *names, cwd=tmp_path)
    assert table.code == 0
    for seen in shown:
        assert "cell search" in table.row(seen)
    assert "\x1b" not in table.out


def test_top_shows_the_best_alternatives(server: str, photos: Path) -> None:
    (record,) = geofix("locate", "--json", "--top", "3", "--server", server, photos / "grey.png").records
    weights = [alternative["weight"] for alternative in record["alternatives"]]
    assert len(weights) == 3
    assert weights == sorted(weights, reverse=True)
    assert 0 < sum(weights) <= 1.001
    ran = geofix("locate", "--top", "3", "--server", server, photos / "grey.png")
    for rank, alternative in enumerate(record["alternatives"], 1):
        (row,) = [line for line in ran.out.splitlines() if line.strip().startswith(f"{rank}.")]
        assert alternative["place"] in row
        assert f"{100 * alternative['weight']:.0f} %, {alternative['neighbors']} image" in row
    (fewer,) = geofix("locate", "--json", "--top", "1", "--server", server, photos / "grey.png").records
    assert fewer["alternatives"] == record["alternatives"][:1]


@pytest.mark.parametrize(
    "words",
    [
        ["locate"],
        ["locate", "--nonsense", "photo.jpg"],
        ["locate", "--top", "-1", "photo.jpg"],
        ["locate", "--top", "101", "photo.jpg"],
        ["locate", "--timeout", "0", "photo.jpg"],
        ["locate", "--timeout", "inf", "photo.jpg"],
        ["evaluate", "--images", "."],
        ["evaluate", "--images", ".", "--truth", "truth.csv", "--limit", "0"],
        ["nonsense"],
    ],
)
def test_usage(words: list[str]) -> None:
    ran = geofix(*words)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: geofix" in ran.err


@pytest.mark.parametrize("content", ["file,lat\n", "file,lat,lon\nalps.png,47,east\n"])
def test_an_unusable_truth_costs_the_distances_and_nothing_else(
    server: str, photos: Path, tmp_path: Path, content: str
) -> None:
    for name in PLACES:
        shutil.copy(photos / name, tmp_path)
    (tmp_path / "truth.csv").write_text(content)
    ran = geofix("locate", "--server", server, *(tmp_path / name for name in PLACES))
    assert ran.code == 0
    assert ran.err.count("no distances to the truth") == 1
    assert str(tmp_path / "truth.csv") in ran.err
    assert "off by" not in ran.out


def test_a_server_that_is_down_is_said_once_with_its_address(photos: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    ran = geofix("locate", "--json", photos / "alps.png", photos / "grey.png", variables={"GEOFIX_SERVER": address})
    assert ran.code == 1
    assert ran.err.count(address) == 1
    assert "geofix up" in ran.err
    assert [record["reason"] for record in ran.records] == ["SERVICE_UNAVAILABLE"] * 2
    assert all(address in record["error"] for record in ran.records)


@pytest.mark.parametrize("command", ["locate", "evaluate", "bench", "doctor"])
def test_interrupted_it_ends_at_once_and_says_nothing(
    photos: Path, bundle: Bundle, tmp_path: Path, command: str
) -> None:
    commands: dict[str, list[Word]] = {
        "locate": [photos / name for name in PLACES],
        "evaluate": ["--images", photos, "--truth", photos / "truth.csv"],
        "bench": ["--seconds", "20", photos],
        "doctor": ["--bundle", bundle.directory, "--data-dir", tmp_path / "data"],
    }
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [GEOFIX, command, "--server", address, *commands[command]],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        silent.settimeout(SECONDS)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=25)  # less than it would wait for an answer
        connection.close()
    assert (process.returncode, err) == (130, b"")
    assert out == b"" or command == "doctor"  # which says each finding when it has it


def in_terminal(*words: Word, stdout: bool = False, columns: int = 100) -> tuple[int, str, str]:
    """Run with stderr, or with stdout, on a terminal; the exit code, what the terminal showed, what the other stream held."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [GEOFIX, *words],
        env=clean_environment() | {"TERM": "xterm", "COLUMNS": str(columns)},
        stdout=theirs if stdout else subprocess.PIPE,
        stderr=subprocess.PIPE if stdout else theirs,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # on Linux the end of a terminal is an error
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, shown.decode(), (err if stdout else out).decode()


def test_progress_goes_to_the_terminal_and_never_to_the_output(server: str, photos: Path) -> None:
    code, shown, out = in_terminal("locate", "--json", "--server", server, *[photos / "alps.png"] * 8)
    assert code == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 8
    assert "locating" in shown
    assert "8/8" in shown
    assert "model_version" not in shown


@pytest.mark.parametrize("columns", [60, 80, 150])
def test_the_table_fits_its_terminal(server: str, photos: Path, columns: int) -> None:
    files = [photos / name for name in PLACES]
    code, shown, _ = in_terminal("locate", "--server", server, *files, stdout=True, columns=columns)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.splitlines()]
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert "km" in shown


def test_a_reader_that_went_away_is_no_traceback(server: str, photos: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [GEOFIX, "locate", "--json", "--server", server, *[photos / "alps.png"] * 3],
        env=clean_environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=SECONDS,
        check=False,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.parametrize("options", [["--json"], []])
def test_an_output_that_lacks_the_letters_of_a_name_shows_the_rest(
    server: str, photos: Path, located: Ran, options: list[str]
) -> None:
    place = located.records[-1]["place"]
    ran = geofix(
        "locate",
        *options,
        "--top",
        "3",
        "--server",
        server,
        photos / "grey.png",
        variables={"PYTHONIOENCODING": "ascii"},
    )
    assert ran.code == 0
    assert place.encode("ascii", "replace").decode() in ran.out
    assert ran.out.isascii()
