"""`geofix gallery` from one's own images to a gallery that is live, back, and away again: each kind of source, each command."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle_factory import image_of, make_bundle
from command import Ran, Word, geofix
from geofix.bundle import Bundle
from geofix.exif_gps import Fix, with_gps
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.store import Store
from geofix.platform.directory import DataDirectory
from own_images import places

pytestmark = pytest.mark.e2e

EACH = 20
LATS, LONS = (values.tolist() for values in places(3 * EACH))


def jpeg(index: int) -> bytes:
    return image_of(LATS[index], LONS[index], "JPEG") + bytes([index])  # so that no two are the same


def write_directory(root: Path) -> Path:
    """Photographs whose EXIF says where they were taken, one that does not say it, and a text."""
    (root / "2024").mkdir(parents=True)
    for index in range(EACH):
        (root / "2024" / f"{index}.jpg").write_bytes(with_gps(jpeg(index), Fix(LATS[index], LONS[index])))
    (root / "nowhere.jpg").write_bytes(jpeg(0))
    (root / "notes.txt").write_text("no image")
    return root


def write_shards(root: Path) -> Path:
    """Two shards of WebDataset."""
    root.mkdir()
    for start in (EACH, EACH + EACH // 2):
        with tarfile.open(root / f"{start}.tar", "w") as shard:
            for index in range(start, start + EACH // 2):
                said = {"lat": LATS[index], "lon": LONS[index], "title": f"Bild № {index}", "licence": "CC0"}
                for name, data in ((f"{index}.jpg", jpeg(index)), (f"{index}.json", json.dumps(said).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))
    return root


def write_parquet(path: Path) -> Path:
    """A table that holds the images."""
    range_ = range(2 * EACH, 3 * EACH)
    columns = {"file": [f"{index}.jpg" for index in range_], "image": [{"bytes": jpeg(index)} for index in range_]}
    table = {**columns, "lat": LATS[2 * EACH :], "lon": LONS[2 * EACH :], "url": [f"https://e.org/{i}" for i in range_]}
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def bundle(home: Path) -> Bundle:
    return make_bundle(home / "bundle")


def gallery(home: Path, *words: Word, code: int = 0) -> Ran:
    ran = geofix("gallery", *words, "--bundle", home / "bundle", "--data-dir", home / "data")
    assert ran.code == code, ran.out + ran.err
    return ran


def listed(home: Path) -> dict[str, dict[str, object]]:
    """What `list --json` says of each version."""
    return {record["name"]: record for record in gallery(home, "list", "--json").records}


def test_from_ones_own_images_to_a_live_gallery_and_back(bundle: Bundle, home: Path, tmp_path: Path) -> None:
    own = gallery(home, "create", "--from-bundle", "--promote").out.strip()
    assert own == gallery(home, "create", "--from-bundle", "--promote").out.strip() == bundle.gallery_version
    mine = gallery(home, "create", "mine", "--expect", str(3 * EACH)).out.strip()
    assert gallery(home, "create", "mine", "--expect", str(3 * EACH)).out.strip() == mine

    report = tmp_path / "report.json"
    directory = write_directory(tmp_path / "photos")
    ran = gallery(home, "add", "mine", directory, "--report", report)
    assert f"{mine}: {EACH} added" in ran.out
    said = json.loads(report.read_text())
    assert (said["added"], said["seen"]) == (EACH, EACH + 2)
    assert said["skipped"] == {"no coordinates": 1, "not an image": 1}
    assert {each["name"] for each in said["listed"]} == {"nowhere.jpg", "notes.txt"}
    for source in (write_shards(tmp_path / "shards"), write_parquet(tmp_path / "table.parquet")):
        assert f"{mine}: {EACH} added" in gallery(home, "add", "mine", source).out
    assert f"{EACH} there before, 2 skipped" in gallery(home, "add", "mine", directory).out
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "could be added" in gallery(home, "add", "mine", empty, code=1).err

    assert f"{mine}: " in gallery(home, "verify", "mine").out
    assert listed(home)[mine]["state"] == "verified"
    promoted = gallery(home, "promote", "mine")
    assert promoted.out == f"{mine} is live: {3 * EACH} images; before it {own}\n"
    assert "UNCALIBRATED" in promoted.err
    assert "never changes" in gallery(home, "add", "mine", directory, code=1).err
    assert {name: record["live"] for name, record in listed(home).items()} == {own: False, mine: True}
    assert "is live" in gallery(home, "delete", "mine", code=1).err

    with Store(str(DataDirectory(home / "data").milvus(bundle))) as store:
        admin = DirectAdmin(store, bundle)
        info = admin.get(mine)
        rows = [read.row for p in range(info.partitions) for read in admin.read(mine, partition=p)]
    by_file = {row.fields["file"]: row for row in rows}
    assert len(by_file) == 3 * EACH
    for index in range(EACH):
        row = by_file[f"2024/{index}.jpg"]
        assert (row.lat, row.lon) == pytest.approx((LATS[index], LONS[index]), abs=1e-5)
    assert by_file[f"{EACH}.tar:{EACH}"].fields["title"] == f"Bild № {EACH}"
    assert by_file[f"{2 * EACH}.jpg"].picture == f"https://e.org/{2 * EACH}"

    assert gallery(home, "rollback").out == f"{own} is live\n"
    table = gallery(home, "list").out
    assert [word for word in ("live", "retired") if word in table] == ["live", "retired"]
    assert "delete it in" in gallery(home, "delete", "mine", code=1).err
    assert gallery(home, "delete", "mine", "--force").out == f"{mine} is deleted\n"
    assert listed(home).keys() == {own}
    assert "there is no gallery version mine" in gallery(home, "delete", "mine", code=1).err
    assert "there is no version to go back to" in gallery(home, "rollback", code=1).err
