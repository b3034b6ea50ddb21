"""`geofix bundle import` as people run it, and what it says where something is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from geofix.bundle import Bundle
from geofix.cli.app import app
from geofix_training.published import random_published

pytestmark = pytest.mark.training


def run(*words: str | Path, what: str = "swc") -> Result:
    return CliRunner().invoke(app, ["bundle", "import", what, *map(str, words)])


def test_files_become_a_bundle_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    backbone, mvmf, rrm = random_published(tmp_path, cells=20, hidden=16, seed=1)
    swapped = run("--backbone", backbone, "--mvmf", rrm, "--rrm", mvmf, tmp_path / "out")
    assert swapped.exit_code == 1
    assert f"geofix bundle import swc: {rrm} is of another network: it lacks mixture_weights" in swapped.stderr
    assert not (tmp_path / "out").exists()
    done = run("--backbone", backbone, "--mvmf", mvmf, "--rrm", rrm, "--name", "published", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    bundle = Bundle.load(tmp_path / "out")
    assert done.stdout == f"{bundle.version} in {tmp_path / 'out'}: gallery of 0 images\n"
    assert bundle.manifest.name == "published"


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("geofix_training.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    ran = run("--backbone", "a", "--mvmf", "b", "--rrm", "c", tmp_path / "out")
    assert ran.exit_code == 1
    assert ran.stderr == (
        "geofix bundle import swc: this needs torch, which is not installed: pip install 'geofix[swc]'\n"
    )


def test_geoclip_without_its_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "geoclip", None)
    ran = run("--clip", tmp_path / "clip.pt", tmp_path / "out", what="geoclip")
    assert ran.exit_code == 1
    assert ran.stderr.startswith(
        "geofix bundle import geoclip: the package geoclip is not installed: pip install --no-deps geoclip"
    )


def test_geoclip_is_read_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "geoclip/model").mkdir(parents=True)
    (tmp_path / "geoclip/__init__.py").write_text("raise AssertionError('its code is not run')")
    monkeypatch.syspath_prepend(tmp_path)
    ran = run("--clip", tmp_path / "clip.pt", tmp_path / "out", what="geoclip")
    assert ran.exit_code == 1
    wanted = tmp_path / "geoclip/model/weights/image_encoder_mlp_weights.pth"
    assert ran.stderr == f"geofix bundle import geoclip: there is no file {wanted}\n"
