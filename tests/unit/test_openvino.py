"""OpenVINO's own runtime behind the session: it says the same, refuses what it cannot do, and its agreement can be measured."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from bundle_factory import make_bundle
from geofix.agreement import Agreement, compare
from geofix.bundle import BACKBONE, Bundle
from geofix.cli.app import app
from geofix.errors import MismatchError, Reason
from geofix.onnx import ElasticSession, OnnxSession
from geofix.openvino_model import import_openvino, openvino_providers
from geofix.placement import CPU, Placement
from geofix_classifier.classify import Classifier

pytest.importorskip("openvino")

CITIES = Path(__file__).parents[2] / "bundles" / "cities"
PLAIN, BF16 = "OpenVINO", "OpenVINO_BF16"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


def images(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("threads", [0, 1])
def test_features_are_those_of_onnx_runtime(bundle: Bundle, threads: int) -> None:
    plain, other = (OnnxSession(bundle.path(BACKBONE), (name,), threads) for name in (CPU, PLAIN))
    assert (other.providers, other.inputs, other.outputs) == ((PLAIN,), plain.inputs, plain.outputs)
    for count in (1, 3, 1, 4, 2, 5, 6, 2):  # more shapes than it compiles for
        batch = images(count, count)
        np.testing.assert_allclose(other.run(batch)["feature"], plain.run(batch)["feature"], atol=1e-5)


@pytest.mark.parametrize("threads", [0, 1])
def test_weights_in_eight_bits_say_the_same_in_any_number_of_streams(threads: int) -> None:
    """OpenVINO computes wrong convolutions in several streams where it keeps such weights as they are."""
    backbone = CITIES / BACKBONE
    batch = np.random.default_rng(0).normal(size=(2, 3, 320, 320)).astype(np.float32)
    plain, other = (OnnxSession(backbone, (name,), threads).run(batch)["feature"] for name in (CPU, PLAIN))
    cosine = (plain * other).sum(axis=1) / np.linalg.norm(plain, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > 0.99999


def test_passes_that_overlap_do_not_mix(bundle: Bundle) -> None:
    session = ElasticSession(bundle.path(BACKBONE), Placement((PLAIN,)))
    batches = [images(1, seed) for seed in range(64)]
    alone = [session.run(batch)["feature"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: session.run(batch)["feature"], batches))
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_classifier_runs_its_backbone_on_it_and_the_small_networks_on_onnx_runtime(bundle: Bundle) -> None:
    inputs = list(images(2))
    plain, other = (Classifier(bundle, Placement((name,)), also_embed=True) for name in (CPU, PLAIN))
    assert other.providers == (PLAIN,)
    assert other._head.providers == (CPU,)
    for ours, theirs in zip(plain.classify(inputs), other.classify(inputs), strict=True):
        np.testing.assert_allclose(theirs.log_weights, ours.log_weights, atol=1e-3)
        assert ours.embedding is not None
        assert theirs.embedding is not None
        assert ours.embedding @ theirs.embedding > 0.9999


def test_it_is_placed_as_a_cpu() -> None:
    place = Placement((BF16,))
    assert (place.on_cpu, place.sizes, place.small_providers) == (True, (1,), (CPU,))
    assert place.lanes == Placement().lanes
    assert Placement(("CUDAExecutionProvider",)).small_providers == ("CUDAExecutionProvider",)


def test_a_precision_that_the_cpu_lacks_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_openvino().Core, "get_property", lambda *_: ["FP32", "INT8"])
    assert openvino_providers() == (PLAIN,)
    with pytest.raises(MismatchError, match="no instructions for it: take OpenVINO, or") as caught:
        OnnxSession(bundle.path(BACKBONE), (BF16,))
    assert caught.value.reason is Reason.PROVIDER_MISMATCH
    assert caught.value.metadata == {"asked": BF16, "found": PLAIN}


def test_without_the_extra_it_says_what_to_install(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert openvino_providers() == ()
    with pytest.raises(MismatchError, match=r"pip install 'geofix\[openvino\]'") as caught:
        OnnxSession(bundle.path(BACKBONE), (PLAIN,))
    assert caught.value.reason is Reason.PROVIDER_MISMATCH


def test_beside_another_provider_it_is_refused(bundle: Bundle) -> None:
    with pytest.raises(MismatchError, match="asked for OpenVINO, CPUExecutionProvider"):
        OnnxSession(bundle.path(BACKBONE), (PLAIN, CPU))


def test_it_tells_nobody_that_it_is_used(bundle: Bundle, tmp_path: Path) -> None:
    script = f"""
import socket, sys
socket.getaddrinfo = socket.create_connection = lambda *_, **__: sys.exit("it asks the network")
from pathlib import Path
from geofix.onnx import OnnxSession
print(OnnxSession(Path({str(bundle.path(BACKBONE))!r}), ("OpenVINO",)).providers)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "('OpenVINO',)\n", done.stderr
    assert list(tmp_path.iterdir()) == []  # as it comes, it leaves an id there and asks for Google Analytics


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "backbone.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(MismatchError, match=r"backbone\.onnx") as caught:
        OnnxSession(path, (PLAIN,))
    assert caught.value.reason is Reason.BUNDLE_INVALID


def test_agreement_is_measured_on_ones_own_images(bundle: Bundle, tmp_path: Path) -> None:
    for seed in range(5):
        pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{seed}.png")
    (tmp_path / "6.png").write_bytes(b"no image")
    asked = ["bundle", "agree", str(bundle.directory), str(tmp_path), "--provider", PLAIN]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "5 images, OpenVINO against float32 on the CPU" in done.output
    assert "6.png" in done.output
    assert "It agrees." in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--provider", "OpenVINO_INT1"], "asked for OpenVINO_INT1"), ([], "there are no images to compare")],
)
def test_what_cannot_be_compared_is_said(bundle: Bundle, tmp_path: Path, words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["bundle", "agree", str(bundle.directory), str(tmp_path), *words])
    assert done.exit_code == 1
    assert said in done.output


def test_a_provider_that_computes_something_else_does_not_agree(bundle: Bundle) -> None:
    found = compare(bundle, PLAIN, images(8))
    assert found.holds
    assert (found.images, found.top_cell) == (8, 1.0)
    assert not Agreement(100, 0.98, 1.0, 1.0, 2.0).holds
    assert not Agreement(100, 1.0, 0.998, 0.9, 2.0).holds
