"""Manifests: CSV, Parquet, WebDataset shards; what is left out is counted, what cannot be trusted is refused."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geofix.errors import ConfigurationError, InvalidInput
from geofix.features import read_features
from geofix_training.data.images import Images
from geofix_training.data.index import Index, build
from geofix_training.data.manifest import shard_blocks, table_blocks
from geofix_training.data.screening import Screening
from geofix_training.experiment import BackboneConfig, ManifestConfig, read_experiment
from stage_data import experiment

PREPROCESSING = {"size": 16, "fit": "squash", "resample": "bilinear", "mean": [0.0] * 3, "std": [1.0] * 3}


def indexed(folder: Path, table: str, screening: Screening | None = None) -> Index:
    path = folder / "manifest.csv"
    path.write_text(table)
    return build(folder / "index", table_blocks(path, screening or Screening(str(path))), {"images": str(folder)})


def test_what_cannot_be_trained_on_is_counted_with_its_reason(tmp_path: Path) -> None:
    screening = Screening("manifest")
    rows = ["id,path,lat,lon", "a,1.jpg,10,20", "a,2.jpg,11,20", "b,3.jpg,nan,20", "c,4.jpg,,20", "d,5.jpg,north,20"]
    rows += ["e,6.jpg,0,0", "f,7.jpg,0,0", "g,8.jpg,10,200", "h,9.jpg,-10.5,-20.25", 'i,"odd, née.jpg",5,5']
    index = indexed(tmp_path, "\n".join(rows) + "\n", screening)
    assert [index.name(row) for row in range(len(index))] == ["1.jpg", "9.jpg", "odd, née.jpg"]
    assert index.columns["lat"].tolist() == [10, -10.5, 5]
    report = screening.report()
    assert report["kept"] == 3
    assert report["left_out"] == {
        "without a number of degrees": 3,
        "not on the Earth": 1,
        "at (0, 0), which stands for an unknown place": 2,
        "named before": 1,
    }
    assert screening.examples["named before"] == ["2.jpg"]


def test_duplicates_are_found_across_blocks() -> None:
    screening = Screening("manifest")
    place = np.full(4, 5.0)
    kept = [
        screening.keep(list("abcd"), place, place, np.array(ids, np.uint64)).tolist()
        for ids in ([1, 2, 3, 3], [4, 2, 5, 1], [6, 6, 4, 7])
    ]
    assert kept == [[True, True, True, False], [True, False, True, False], [True, False, False, True]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,lat\n1.jpg,5\n", "has no column lon; it has path, lat"),
        ("name,lat,lon\n1.jpg,5,5\n", r"has no column path \(or file, or url\)"),
        ("path,lat,lon\n1.jpg,5,5\n2.jpg,151.2,-33.9\n", "2.jpg is at lat 151.2, lon -33.9: are lat and lon swapped"),
        ("path,lat,lon\n1.jpg,nan,5\n", "nothing is left to train on"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        indexed(tmp_path, table)
    with pytest.raises(InvalidInput, match="holds no index"):
        Index.open(tmp_path / "index")


def test_a_manifest_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no table")
    for name, message in (("x.parquet", "is no table"), ("none.csv", "there is no manifest")):
        with pytest.raises(InvalidInput, match=message):
            list(table_blocks(tmp_path / name, Screening("x")))


def test_parquet_with_numbers_and_groups(tmp_path: Path) -> None:
    table = {"url": ["https://example.org/1", "2"], "lat": [1.0, None], "lon": [2.0, 3.0], "group": ["g", "g"]}
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    (block,) = table_blocks(tmp_path / "m.parquet", Screening("m"))
    assert block.names == ["https://example.org/1"]
    assert block.group[0] != block.id[0]


def test_columns_by_other_names_links_and_what_may_be_published(tmp_path: Path) -> None:
    rows = [
        "file,source,lat,lon,album,share",
        "1.jpg,a b/ü.jpg,1,2,x/y,no",
        "2.jpg,c.jpg,3,4,x/y,",
        "3.jpg,d.jpg,5,6,z,yes",
    ]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    config = ManifestConfig(path="file", group="album", published="share", link="https://host/{album}/{source}")
    index = build(tmp_path / "index", table_blocks(tmp_path / "m.csv", Screening("m"), config), {"images": ""})
    assert [index.name(row) for row in range(3)] == ["1.jpg", "2.jpg", "3.jpg"]
    assert [index.link(row) for row in range(3)] == [
        "https://host/x/y/a%20b/%C3%BC.jpg",
        "https://host/x/y/c.jpg",
        "https://host/z/d.jpg",
    ]
    assert index.columns["published"].tolist() == [0, 0, 1], "what is not said to be public is not"
    group = index.columns["group"].tolist()
    assert group[0] == group[1] != group[2]
    screening, without = Screening("m"), config.model_copy(update={"leave_out": ("x/y",)})
    (block,) = table_blocks(tmp_path / "m.csv", screening, without)
    assert block.names == ["3.jpg"]
    assert screening.report()["left_out"] == {"of a group that the experiment leaves out": 2}
    for wrong in ({"link": "https://host/{nobody}"}, {"group": "nobody"}, {"path": "nobody"}):
        with pytest.raises(InvalidInput, match="has no column nobody; it has file, source"):
            list(table_blocks(tmp_path / "m.csv", Screening("m"), ManifestConfig(**wrong)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest": {"link": "https://host/{album"}}, "unmatched brace"),
        ({"manifest": {"link": "https://host/{}"}}, "name a column in it"),
        ({"gallery": {"published_only": True}}, "needs manifest.published"),
        ({"baseline": {"timm": "any", "preprocessing": PREPROCESSING}}, "needs a backbone with components"),
        (
            {"backbone": {"timm": "any", "preprocessing": PREPROCESSING, "adapt": {}}},
            "adapt, beside and weight_bits need components",
        ),
        (
            {"backbone": {"timm": "any", "preprocessing": PREPROCESSING, "weight_bits": 8}},
            "adapt, beside and weight_bits need components",
        ),
    ],
)
def test_parts_of_an_experiment_that_do_not_fit(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_experiment(experiment(tmp_path, **changes))


def test_an_index_of_an_earlier_version_says_what_to_do(tmp_path: Path) -> None:
    indexed(tmp_path, "path,lat,lon\na.jpg,1,2\n")
    (tmp_path / "index" / "published.bin").unlink()
    with pytest.raises(InvalidInput, match="without published: name another --work folder"):
        Index.open(tmp_path / "index")


def shard(path: Path, samples: dict[str, tuple[float, float] | None]) -> None:
    with tarfile.open(path, "w") as archive:
        for key, place in samples.items():
            buffer = io.BytesIO()
            Image.new("RGB", (40, 40), (len(key), 9, 9)).save(buffer, "PNG")
            said = json.dumps({} if place is None else {"lat": place[0], "lon": place[1]}).encode()
            for suffix, data in (("png", buffer.getvalue()), ("json", said)):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def test_shards_are_read_where_their_bytes_lie(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a": (10, 20), "bb": None, "ccc": (30, 40)})
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(whole[:2000])
    screening = Screening("shards")
    shards = [tmp_path / "0.tar", tmp_path / "1.tar"]
    meta = {"images": "", "shards": [str(path) for path in shards]}
    index = build(tmp_path / "index", shard_blocks(shards, screening), meta)
    assert index.columns["lat"].tolist()[:2] == [10, 30]
    assert any("damaged shard" in reason for reason in screening.left_out)
    config = BackboneConfig.model_validate({"timm": "any", "preprocessing": PREPROCESSING})
    images = Images(index, config, tmp_path / "unreadable.csv")
    found = images.serving_input(1)
    assert found is not None
    assert found[0, 0, 0] == pytest.approx(3 / 255)
    crop = images.training_input(0, np.random.default_rng(0))
    assert crop is not None
    assert crop.shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((3, 4)), "lat": np.zeros(3)}, "has no array lon"),
        ({"features": np.ones((3, 4)), "lat": np.zeros(2), "lon": np.zeros(2)}, "must be"),
        ({"features": np.ones((1, 4)), "lat": np.array([120.0]), "lon": np.array([5.0])}, "swapped"),
        ({"features": np.full((1, 4), np.nan), "lat": np.ones(1), "lon": np.ones(1)}, "row 0 are not finite"),
        ({"features": np.ones((2, 4)), "latlon": np.ones((2, 2)), "ids": np.array(["a"])}, "ids has 1 values for 2"),
    ],
)
def test_features_that_cannot_be_right(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(InvalidInput, match=message):
        read_features(tmp_path / "f.npz")


def test_views_of_a_place_are_its_group(tmp_path: Path) -> None:
    given = np.zeros((2, 3, 4), np.int8)
    given[..., 0] = 127
    np.savez(tmp_path / "f.npz", features=given, latlon=np.array([[1.0, 2.0], [3.0, 4.0]]))
    found = read_features(tmp_path / "f.npz")
    assert found.ids.tolist() == ["0/0", "0/1", "0/2", "1/0", "1/1", "1/2"]
    assert found.group.tolist() == ["0"] * 3 + ["1"] * 3
    assert found.lat.tolist() == [1] * 3 + [3] * 3
    assert np.linalg.norm(found.feature, axis=1) == pytest.approx(np.ones(6))
