"""What `geofix` writes beside its table, and the commands around it: against a real platform."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from bundle_factory import RULE, image_of, make_bundle
from command import GEOFIX, PLACES, SECONDS, Ran, geofix
from geofix.bundle import GALLERY, Bundle
from geofix.geo import haversine_km
from geofix.platform.ports import free_ports
from platforms import clean_environment

pytestmark = pytest.mark.e2e


def test_a_folder_as_csv_geojson_and_a_map(server: str, photos: Path, located: Ran, tmp_path: Path) -> None:
    page = tmp_path / "map.html"
    ran = geofix("locate", "--csv", "--map", page, "--server", server, photos)
    assert ran.code == 0
    assert str(page) in ran.err
    rows = {Path(row["file"]).name: row for row in csv.DictReader(io.StringIO(ran.out))}
    assert rows.keys() == {*PLACES, "grey.png"}
    for record in located.records:
        row = rows[Path(record["file"]).name]
        assert (float(row["lat"]), float(row["lon"])) == (record["lat"], record["lon"])
        assert row["localizable"] == str(record["localizable"]).lower()
        assert row["radius_km"] == ("" if record["radius_km"] is None else str(record["radius_km"]))

    text = page.read_text()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|(src|href)=|@import|url\(", text), "it asks nobody"
    answers = json.loads(re.search(r'id="answers">(.*?)</script>', text, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert [answer["localizable"] for answer in answers] == [name != "grey.png" for name in sorted(rows)]
    assert all(answer["truth"] and len(answer["areas"]) == (2 if answer["localizable"] else 0) for answer in answers)
    assert len(text) < 400_000

    collection = json.loads(geofix("locate", "--geojson", "--server", server, photos / "alps.png").out)
    kinds = [feature["properties"]["kind"] for feature in collection["features"]]
    assert kinds == ["estimate", "radius", "radius"]
    lon, lat = collection["features"][0]["geometry"]["coordinates"]
    assert (round(lat, 6), round(lon, 6)) == (located.records[0]["lat"], located.records[0]["lon"])
    assert collection["features"][0]["properties"]["file"].endswith("alps.png")


def test_standard_input(server: str, photos: Path, located: Ran) -> None:
    with (photos / "alps.png").open("rb") as stdin:
        ended = subprocess.run(
            [GEOFIX, "locate", "--json", "--server", server, "-"],
            env=clean_environment(),
            stdin=stdin,
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
    record = json.loads(ended.stdout)
    assert (record["file"], record["lat"]) == ("(standard input)", located.records[0]["lat"])


def test_copies_carry_the_position_and_photos_are_never_touched(server: str, tmp_path: Path) -> None:
    photo, copies = tmp_path / "sydney.jpg", tmp_path / "copies"
    photo.write_bytes(image_of(*PLACES["sydney.jpg"], "JPEG"))
    before = photo.read_bytes()
    ran = geofix("locate", "--json", "--write-exif", copies, "--server", server, photo)
    assert ran.code == 0
    with Image.open(copies / "sydney.jpg") as copy:
        gps = copy.getexif().get_ifd(0x8825)
    (d, m, s), sign = gps[2], -1 if gps[1] == "S" else 1
    assert sign * float(d + m / 60 + s / 3600) == pytest.approx(ran.records[0]["lat"], abs=1e-5)
    assert photo.read_bytes() == before
    again = geofix("locate", "--write-exif", copies, "--server", server, photo)
    assert again.code == 1
    assert "there is one of that name" in again.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--json", "--csv", "a.jpg"], "exclude each other"),
        (["http://127.0.0.1/a.jpg"], "--allow-url"),
        (["-", "-"], "one standard input"),
        (["--country", "NO", "--area", "1,2,3", "a.jpg"], "exclude each other"),
        (["--area", "1,2", "a.jpg"], "neither lat,lon,km nor"),
        (["--area", "1,2,0", "a.jpg"], "a circle's radius"),
        (["--map", "absent/map.html", "a.jpg"], "existing folder"),
        (["--ca", "absent.pem", "a.jpg"], "cannot be read"),
        (["--cert", "cert.pem", "a.jpg"], "go together"),
    ],
)
def test_wrong_usage_is_said_before_any_work(words: list[str], problem: str, tmp_path: Path) -> None:
    ran = geofix("locate", *words, cwd=tmp_path, variables={"COLUMNS": "1000"})
    assert (ran.code, ran.out) == (2, "")
    assert problem in ran.err


def test_an_area_holds_the_answer(server: str, photos: Path, located: Ran) -> None:
    far = located.records[0]
    ran = geofix("locate", "--json", "--area", "-33,151,1500", "--server", server, photos / "alps.png")
    (record,) = ran.records
    if ran.code == 0:
        assert float(haversine_km(record["lat"], record["lon"], -33, 151)) <= 1500
        assert (record["lat"], record["lon"]) != (far["lat"], far["lon"])
    else:
        assert record["reason"] == "SEARCH_AREA_EMPTY"


def test_a_url_of_this_network_is_an_error_of_that_photo(server: str, photos: Path) -> None:
    ran = geofix("locate", "--json", "--allow-url", "--server", server, "http://127.0.0.1:1/a.jpg", photos / "alps.png")
    assert ran.code == 1
    refused, answered = ran.records
    assert "not a public address" in refused["error"]
    assert "lat" in answered


def test_doctor_finds_a_sound_platform_sound_and_names_what_is_not(server: str, bundle: Bundle, tmp_path: Path) -> None:
    words = ("doctor", "--json", "--bundle", bundle.directory, "--data-dir", tmp_path / "data")
    ran = geofix(*words, "--server", server)
    found = {record["check"]: record for record in ran.records}
    assert ran.code == 0, ran.out
    assert bundle.version in found[f"server {server}"]["says"]
    assert found["bundle"]["state"] == found["limits"]["state"] == found["execution providers"]["state"] == "good"

    down = f"127.0.0.1:{free_ports(1)[0]}"
    variables = {
        "GEOFIX_PROVIDERS": "CUDAExecutionProvider",
        "GEOFIX_REDIS_URL": f"redis://{down}/0",
        "GEOFIX_SERVR": "x",
    }
    ran = geofix("doctor", "--json", "--bundle", tmp_path, "--server", down, variables=variables)
    wrong = {record["check"] for record in ran.records if record["state"] == "wrong"}
    assert ran.code == 1
    assert wrong >= {"execution providers", "Redis", "bundle", "settings", f"server {down}"}
    assert all(record["remedy"] for record in ran.records if record["state"] == "wrong")


def test_bench_prints_rate_and_quantiles(server: str, photos: Path) -> None:
    ran = geofix("bench", "--json", "--seconds", "1", "--concurrency", "2", "--server", server, photos)
    (record,) = ran.records
    assert ran.code == 0, ran.err
    assert record["errors"] == {}
    assert record["answers"] > 0
    assert record["images_per_second"] == pytest.approx(record["answers"] / record["seconds"], rel=0.01)
    assert 0 < record["p50_ms"] <= record["p90_ms"] <= record["p99_ms"]
    assert record["server_ms"]["classify"] > 0
    far = geofix("bench", "--server", "gateway.example.org:1", photos, variables={"COLUMNS": "1000"})
    assert far.code == 2
    assert "--yes" in far.err


def test_bundles(bundle: Bundle, tmp_path: Path) -> None:
    (found,) = geofix("bundle", "info", "--json", bundle.directory).records
    assert found["version"] == bundle.version
    assert bundle.version in geofix("bundle", "info", bundle.directory).out
    assert geofix("bundle", "verify", bundle.directory).code == 0
    same = geofix("bundle", "diff", bundle.directory, bundle.directory)
    assert (same.code, same.out) == (0, "no difference\n")

    other = Path(shutil.copytree(bundle.directory, tmp_path / "other"))
    manifest = other / "bundle.json"
    text = manifest.read_text()
    with (other / GALLERY).open("ab") as file:
        file.write(b"\0")
    broken = geofix("bundle", "verify", other)
    assert (broken.code, GALLERY in broken.err) == (1, True)
    manifest.write_text(text.replace(bundle.manifest.license, "another licence"))
    assert "was changed after it was written" in geofix("bundle", "info", other).err


def test_bundles_that_differ(bundle: Bundle, tmp_path: Path) -> None:
    rule = RULE.model_copy(update={"k": RULE.k + 1})
    other = make_bundle(tmp_path / "other", name="other", gallery_rows=501, rule=rule)
    (found,) = geofix("bundle", "diff", "--json", bundle.directory, other.directory).records
    assert found["fields"].keys() == {"name", "version", "decision"}
    assert found["fields"]["name"] == ["tiny", "other"]
    assert [each["k"] for each in found["fields"]["decision"]] == [RULE.k, RULE.k + 1]
    assert {"gallery.parquet", "MODEL_CARD.md"} <= found["files"].keys()
    assert "backbone.onnx" not in found["files"], "the same networks"
    ran = geofix("bundle", "diff", bundle.directory, other.directory)
    assert ran.code == 1
    assert "name: tiny → other" in ran.out
    before, after = ((each.directory / GALLERY).stat().st_size for each in (bundle, other))
    assert f"{GALLERY}: {before:,} → {after:,} bytes" in ran.out


def test_places_of_the_answers_are_those_of_the_photos(located: Ran) -> None:
    for record, place in zip(located.records, PLACES.values(), strict=False):
        assert float(haversine_km(record["lat"], record["lon"], *place)) < 2000


@pytest.mark.parametrize("command", ["locate", "up", "demo", "evaluate", "doctor", "bench"])
def test_help_has_examples_and_exit_codes_and_no_colours(command: str) -> None:
    ran = geofix(command, "--help", variables={"COLUMNS": "120"})
    assert ran.code == 0
    assert f"geofix {command}" in ran.out[ran.out.index("Examples") :]
    assert "Exit codes: 0" in ran.out
    assert "\x1b" not in ran.out


def test_shells_complete_commands() -> None:
    variables = {"_GEOFIX_COMPLETE": "complete_bash", "COMP_WORDS": "geofix b", "COMP_CWORD": "1"}
    assert geofix(variables=variables).out.split() == ["bench", "bundle"]
