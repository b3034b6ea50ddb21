"""Which provider runs a model, on how many threads, in batches of which size: the rules hold without a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from bundle_factory import make_bundle
from geofix import onnx
from geofix.bundle import BACKBONE, Bundle
from geofix.errors import MismatchError, Reason
from geofix.onnx import ElasticSession, OnnxSession
from geofix.placement import CPU, DEVICE_SIZES, Placement

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def model(bundle: Bundle) -> Path:
    return bundle.path(BACKBONE)


def images(count: int, seed: int = 0) -> onnx.Array:
    return np.random.default_rng(seed).normal(size=(count, 3, 32, 32)).astype(np.float32)


class FakeInference:
    """A session of ONNX Runtime that says which providers it has, and runs on the CPU."""

    def __init__(self, real: Callable[..., Any], in_use: list[str]) -> None:
        self._real, self._in_use = real, in_use

    def __call__(self, path: str, options: Any, providers: list[str]) -> Any:
        session = self._real(path, options, providers=[CPU])
        session.get_providers = lambda: self._in_use
        return session


@pytest.mark.parametrize(
    ("asked", "available", "in_use"),
    [
        ([CUDA], [CPU], []),  # the CPU build
        ([CUDA], [CUDA, CPU], [CPU]),  # the GPU build without a GPU: ONNX Runtime falls back
        ([CUDA, CPU], [CUDA, CPU], [CPU]),
        ([TENSORRT, CUDA], [TENSORRT, CUDA, CPU], [CUDA, CPU]),  # TensorRT's libraries are missing
        ([TENSORRT, CUDA, CPU], [CUDA, CPU], []),
        ([CPU, CUDA], [CUDA, CPU], [CPU]),
    ],
)
def test_a_provider_that_was_asked_for_and_is_not_in_use_is_an_error(
    model: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], available: list[str], in_use: list[str]
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: available)
    monkeypatch.setattr(ort, "InferenceSession", FakeInference(ort.InferenceSession, in_use))
    with pytest.raises(MismatchError) as caught:
        OnnxSession(model, asked)
    assert caught.value.reason is Reason.PROVIDER_MISMATCH
    assert caught.value.metadata == {"asked": ",".join(asked), "found": ",".join(in_use or available)}


@pytest.mark.parametrize("asked", [[CUDA], [CUDA, CPU], [TENSORRT, CUDA, CPU]])
def test_providers_that_are_in_use_are_taken_in_their_order(
    model: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    in_use = [*asked, *({CPU} - set(asked))]
    monkeypatch.setattr(ort, "get_available_providers", lambda: in_use)
    monkeypatch.setattr(ort, "InferenceSession", FakeInference(ort.InferenceSession, in_use))
    assert OnnxSession(model, asked).providers == tuple(in_use)


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "backbone.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(MismatchError, match=r"backbone\.onnx") as caught:
        OnnxSession(path)
    assert caught.value.reason is Reason.BUNDLE_INVALID


@pytest.mark.parametrize(("count", "padded"), [(1, 1), (2, 4), (3, 4), (4, 4), (5, 5)])
def test_a_batch_is_padded_to_the_next_size_and_the_padding_is_not_answered(
    model: Path, monkeypatch: pytest.MonkeyPatch, count: int, padded: int
) -> None:
    plain, session = OnnxSession(model), OnnxSession(model, sizes=(1, 4))
    seen: list[int] = []
    engine = session._engine._session  # type: ignore[union-attr]
    run = engine.run

    def counted(outputs: list[str], inputs: dict[str, onnx.Array]) -> Any:
        seen.append(len(inputs["image"]))
        return run(outputs, inputs)

    monkeypatch.setattr(engine, "run", counted)
    found = session.run(images(count))["feature"]
    assert seen == [padded]
    np.testing.assert_allclose(found, plain.run(images(count))["feature"], atol=1e-6)


def test_input_and_outputs_bound_to_device_memory_give_the_same(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = OnnxSession(model)
    monkeypatch.setattr(onnx, "_DEVICES", {CPU: "cpu"})  # the only device that is here
    bound = OnnxSession(model, sizes=(1, 4))
    for count, seed in ((1, 1), (3, 2), (1, 3), (4, 4)):
        batch = images(count, seed)
        np.testing.assert_allclose(bound.run(batch)["feature"], plain.run(batch)["feature"], atol=1e-6)
    shapes = bound._engine._device_inputs  # type: ignore[union-attr]
    assert sorted(shape[0] for shape in shapes) == [1, 4]


def test_a_pass_that_is_alone_gets_all_cores_and_one_beside_it_gets_one(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "available_cpus", lambda: 2)
    session = ElasticSession(model, Placement())
    used: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    def wide(batch: onnx.Array) -> dict[str, onnx.Array]:
        used.append("wide")
        entered.set()
        assert leave.wait(20)
        return {}

    monkeypatch.setattr(session._wide, "run", wide)
    monkeypatch.setattr(session._narrow, "run", lambda _: used.append("narrow"))
    alone = threading.Thread(target=session.run, args=(images(1),))
    alone.start()
    assert entered.wait(20)
    session.run(images(1))
    leave.set()
    alone.join()
    session.run(images(1))
    assert used == ["wide", "narrow", "wide"]


@pytest.mark.parametrize("placement", [Placement(threads=2), Placement(("CUDAExecutionProvider",))])
def test_where_threads_are_set_or_on_a_device_there_is_one_session(
    model: Path, monkeypatch: pytest.MonkeyPatch, placement: Placement
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(placement.providers))
    in_use = list(placement.providers)
    monkeypatch.setattr(ort, "InferenceSession", FakeInference(ort.InferenceSession, in_use))
    session = ElasticSession(model, placement)
    assert session._wide is session._narrow


def test_lanes_fill_the_cores_of_a_cpu_and_a_device_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geofix.placement.available_cpus", lambda: 8)
    assert [Placement(threads=n).lanes for n in (0, 1, 2, 3, 8, 16)] == [8, 8, 4, 2, 1, 1]
    assert Placement((CUDA, CPU)).lanes == 1


def test_batch_sizes_suit_where_they_run_unless_they_are_set() -> None:
    assert Placement().sizes == (1,)
    assert Placement((TENSORRT, CUDA)).sizes == DEVICE_SIZES
    assert Placement(batch_sizes=(1, 8)).sizes == (1, 8)
