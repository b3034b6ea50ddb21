"""A bundle is whole and of one version, or it is refused with the file and the directory that are wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle_factory import RULE, make_bundle
from geofix.bundle import (
    CALIBRATION,
    CELLS,
    GALLERY,
    MANIFEST,
    MODEL_CARD,
    REQUIRED,
    Bundle,
    sha256_of,
    write_manifest,
)
from geofix.calibration import Calibration
from geofix.errors import MismatchError, Reason

ALL_FILES = (*REQUIRED, CALIBRATION, MODEL_CARD)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"), gallery_rows=50)


@pytest.fixture
def directory(original: Bundle, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(original.directory, tmp_path / "copy"))


def refusal(directory: Path, load: Callable[[Path], object] = Bundle.load) -> str:
    with pytest.raises(MismatchError) as caught:
        load(directory)
    error = caught.value
    assert error.reason is Reason.BUNDLE_INVALID
    assert error.metadata == {"bundle": str(directory)}
    assert str(directory) in error.message
    return error.message


def fields_of(directory: Path) -> dict[str, Any]:
    """What `write_manifest` wants, as the manifest in `directory` states it."""
    manifest = Bundle.describe(directory).manifest
    return {name: getattr(manifest, name) for name in type(manifest).model_fields if name not in ("files", "version")}


def rewrite(directory: Path, **changes: Any) -> None:
    """The manifest anew, with its version right and its content changed."""
    write_manifest(directory, **fields_of(directory) | changes)


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The manifest changed by hand, its version left as it was."""
    path = directory / MANIFEST
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_was_written_is_read(original: Bundle) -> None:
    loaded = Bundle.load(str(original.directory))
    assert loaded.manifest == original.manifest
    assert loaded.manifest.decision == RULE
    assert set(loaded.manifest.files) == set(ALL_FILES)
    for name, entry in loaded.manifest.files.items():
        assert entry.sha256 == sha256_of(loaded.path(name))
        assert entry.bytes == loaded.path(name).stat().st_size
    assert len(loaded.cells) == loaded.manifest.cell_count == 30
    assert loaded.calibration.radius_km({"entropy": 1.0}, 0.9) == pytest.approx(1000)


def test_versions_name_the_bundle_and_its_content(original: Bundle) -> None:
    assert original.version == f"tiny@{original.manifest.version}"
    assert len(original.manifest.version) == 16
    assert original.gallery_version == f"gallery_tiny_{sha256_of(original.path(GALLERY))[:16]}"
    assert original.gallery_version.startswith(original.gallery_alias)


def test_a_copy_is_the_same_version(original: Bundle, directory: Path) -> None:
    rewrite(directory)
    assert Bundle.load(directory).version == original.version


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"license": "MIT"},
        {"description": "another"},
        {"decision": RULE.model_copy(update={"k": RULE.k + 1})},
        {"feature_dim": 33},
    ],
)
def test_every_field_is_part_of_the_version(original: Bundle, directory: Path, changes: dict[str, Any]) -> None:
    rewrite(directory, **changes)
    assert Bundle.load(directory).manifest.version != original.manifest.version


@pytest.mark.parametrize("name", ALL_FILES)
def test_every_file_is_part_of_the_version(original: Bundle, directory: Path, name: str) -> None:
    with (directory / name).open("ab") as file:
        file.write(b"\0")
    rewrite(directory)
    changed = Bundle.load(directory)
    assert changed.manifest.version != original.manifest.version
    assert (changed.gallery_version != original.gallery_version) == (name == GALLERY)


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_changed_byte_is_found_anywhere(directory: Path, name: str, share: float) -> None:
    data = bytearray((directory / name).read_bytes())
    data[int(share * (len(data) - 1))] ^= 1
    (directory / name).write_bytes(data)
    message = refusal(directory)
    assert f"{name} is not the file that {MANIFEST} describes" in message
    assert "copy the bundle again" in message


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize("verify", [True, False])
def test_a_file_of_another_length_is_found_without_its_hash_too(directory: Path, name: str, verify: bool) -> None:
    data = (directory / name).read_bytes()
    (directory / name).write_bytes(data[:-1])
    assert name in refusal(directory, lambda d: Bundle.load(d, verify=verify))


def test_without_verifying_no_hash_is_computed(directory: Path) -> None:
    data = bytearray((directory / GALLERY).read_bytes())
    data[100] ^= 1
    (directory / GALLERY).write_bytes(data)
    assert Bundle.load(directory, verify=False).manifest.name == "tiny"


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    assert f"{name} is missing; copy the bundle again" in refusal(directory)
    assert Bundle.describe(directory).manifest.name == "tiny"


@pytest.mark.parametrize("name", REQUIRED)
def test_a_bundle_without_a_required_file_is_none(directory: Path, name: str) -> None:
    (directory / name).unlink()
    path = directory / MANIFEST
    content = json.loads(path.read_text())
    del content["files"][name]
    path.write_text(json.dumps(content))
    assert f"{MANIFEST} lists no {name}" in refusal(directory, Bundle.describe)


def test_a_directory_that_is_no_bundle_says_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path, tmp_path / "none", tmp_path / "file"):
        message = refusal(wrong)
        assert f"there is no {MANIFEST} in it" in message
        assert "name a bundle's directory" in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\0", b'"bundle"', b'{"format": 1}'])
def test_a_garbled_manifest_is_named(directory: Path, content: bytes) -> None:
    (directory / MANIFEST).write_bytes(content)
    assert f"{MANIFEST}: " in refusal(directory)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_half_a_manifest_is_refused(directory: Path, share: float) -> None:
    data = (directory / MANIFEST).read_bytes()
    (directory / MANIFEST).write_bytes(data[: int(share * len(data))])
    assert f"{MANIFEST}: " in refusal(directory)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"format": 2}, "format"),
        ({"name": "Orbit!"}, "name"),
        ({"name": ""}, "name"),
        ({"version": "latest"}, "version"),
        ({"cell_count": 0}, "cell_count"),
        ({"feature_dim": "many"}, "feature_dim"),
        ({"decision": {"k": 0}}, "decision.k"),
        ({"surprise": 1}, "surprise"),
        ({"files": {"a": {"sha256": "0", "bytes": 1}}}, "files.a.sha256"),
    ],
)
def test_a_wrong_field_is_named(directory: Path, changes: dict[str, Any], field: str) -> None:
    edit(directory, lambda content: content.update(changes))
    assert f"{MANIFEST}: {field}: " in refusal(directory, Bundle.describe)


@pytest.mark.parametrize(
    "changes", [{"description": "better"}, {"version": "0" * 16}, {"version": ""}, {"embedding_dim": 17}]
)
def test_a_manifest_changed_by_hand_is_noticed(directory: Path, changes: dict[str, Any]) -> None:
    edit(directory, lambda content: content.update(changes))
    assert "was changed after it was written" in refusal(directory, Bundle.describe)


@pytest.mark.parametrize("name", ["../outside", "sub/inside", "/etc/hostname"])
def test_a_file_outside_the_directory_is_not_followed(directory: Path, name: str) -> None:
    path = directory / name
    if not path.is_absolute() or path.is_relative_to(directory.parent):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    manifest = Bundle.describe(directory).manifest
    entry = manifest.files[MODEL_CARD].model_copy(update={"bytes": 1})
    changed = manifest.model_copy(update={"files": {**manifest.files, name: entry}})
    changed = changed.model_copy(update={"version": changed.content_version()})
    (directory / MANIFEST).write_text(changed.model_dump_json())
    assert f"{name} is missing" in refusal(directory, lambda d: Bundle.load(d, verify=False))


def test_hidden_files_and_directories_are_no_part_of_it(original: Bundle, directory: Path) -> None:
    (directory / ".DS_Store").write_text("x")
    (directory / "notes").mkdir()
    rewrite(directory)
    assert Bundle.load(directory).version == original.version
    assert not list(directory.glob(".*.partial"))


def test_a_table_of_cells_that_contradicts_the_manifest(directory: Path) -> None:
    rewrite(directory, cell_count=29)
    assert f"{CELLS} has 30 cells, {MANIFEST} says 29" in refusal(directory, lambda d: Bundle.load(d).cells)


def test_a_table_of_cells_that_cannot_be_read(directory: Path) -> None:
    (directory / CELLS).write_bytes(b"not parquet")
    rewrite(directory)
    assert f"{CELLS} cannot be read" in refusal(directory, lambda d: Bundle.load(d).cells)


def test_a_calibration_that_cannot_be_read(directory: Path) -> None:
    (directory / CALIBRATION).write_text("{}")
    rewrite(directory)
    assert f"{CALIBRATION} cannot be read" in refusal(directory, lambda d: Bundle.load(d).calibration)


def test_a_calibration_of_another_decision_rule(directory: Path) -> None:
    rewrite(directory, decision=RULE.model_copy(update={"temperature": 0.02}))
    message = refusal(directory, lambda d: Bundle.load(d).calibration)
    assert "fitted for another decision rule" in message


def test_without_a_calibration_nothing_has_a_radius_and_nothing_is_refused(directory: Path) -> None:
    (directory / CALIBRATION).unlink()
    rewrite(directory)
    assert Bundle.load(directory).calibration == Calibration(rule=RULE)


def test_one_seed_is_one_version_and_another_is_another(original: Bundle, tmp_path: Path) -> None:
    assert make_bundle(tmp_path / "same", gallery_rows=50).version == original.version
    other = make_bundle(tmp_path / "other", seed=1, gallery_rows=50)
    assert other.version != original.version
    assert np.array_equal(other.cells.xyz, original.cells.xyz)
