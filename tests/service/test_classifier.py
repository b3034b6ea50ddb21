"""The classifier over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from bundle_factory import FEATURE_DIM, grey_image, image_of, make_bundle
from geofix.bundle import Bundle
from geofix.errors import InvalidInput, MismatchError, Overloaded, Reason
from geofix.geo import haversine_km
from geofix.local import LocalEngine
from geofix.v1 import classifier_service_pb2 as pb
from geofix.v1 import classifier_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from geofix.vectors import pack_vector
from geofix_classifier.service import ClassifierService
from geofix_classifier.settings import ClassifierSettings
from running import LISTEN, refusal, running, state_of


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
async def channel(bundle: Bundle) -> AsyncIterator[grpc.aio.Channel]:
    settings = ClassifierSettings(listen=LISTEN, bundle=bundle.directory, max_batch=4, max_image_bytes=100_000)
    async with running(ClassifierService(settings), settings) as open_channel:
        yield open_channel


async def test_scores_and_feature_equal_the_local_engine(channel: grpc.aio.Channel, bundle: Bundle) -> None:
    data = image_of(48.0, 11.0)
    request = pb.ClassifyRequest(sources=[ImageSource(image=data)])
    response = await rpc.ClassifierServiceStub(channel).Classify(request)
    engine = LocalEngine(bundle)
    feature = engine.feature(data)
    scores = engine.heads(feature[None])[0].cells
    result = response.results[0]
    assert response.model_version == bundle.version
    assert result.feature == pack_vector(feature)
    assert [cell.cell_id for cell in result.scores.cells] == scores.cell_id.tolist()
    np.testing.assert_allclose([cell.log_weight for cell in result.scores.cells], scores.log_weight, rtol=1e-6)
    best = result.scores.cells[0].mean
    assert haversine_km(best.latitude, best.longitude, 48.0, 11.0) < 5000


async def test_embeddings_come_with_the_scores_where_the_operator_and_the_caller_want_them(
    channel: grpc.aio.Channel, bundle: Bundle
) -> None:
    data = image_of(48.0, 11.0)
    wanted = pb.ClassifyRequest(sources=[ImageSource(image=data)], with_embedding=True)
    assert (await rpc.ClassifierServiceStub(channel).Classify(wanted)).results[0].embedding == b""
    settings = ClassifierSettings(listen=LISTEN, bundle=bundle.directory, also_embed=True)
    async with running(ClassifierService(settings), settings) as embedding_too:
        stub = rpc.ClassifierServiceStub(embedding_too)
        result = (await stub.Classify(wanted)).results[0]
        unasked = (await stub.Classify(pb.ClassifyRequest(sources=[ImageSource(image=data)]))).results[0]
        info = await stub.GetModelInfo(pb.ClassifierServiceGetModelInfoRequest())
    heads = LocalEngine(bundle).heads(np.frombuffer(result.feature, "<f4")[None])[0]
    np.testing.assert_allclose(np.frombuffer(result.embedding, "<f4"), heads.embedding, atol=1e-6)
    assert unasked.embedding == b""
    assert info.embeds


async def test_a_feature_gives_the_same_scores_as_its_image(channel: grpc.aio.Channel) -> None:
    stub = rpc.ClassifierServiceStub(channel)
    first = await stub.Classify(pb.ClassifyRequest(sources=[ImageSource(image=image_of(-33.0, 151.0))]))
    feature = ImageSource(feature=first.results[0].feature)
    second = await stub.Classify(pb.ClassifyRequest(sources=[feature]))
    assert second.results[0].scores == first.results[0].scores


async def test_a_batch_mixes_images_and_features_in_order(channel: grpc.aio.Channel) -> None:
    stub = rpc.ClassifierServiceStub(channel)
    sources = [ImageSource(image=image_of(lat, lon)) for lat, lon in ((0, 0), (60, 100), (-60, -100))]
    single = [(await stub.Classify(pb.ClassifyRequest(sources=[s]))).results[0] for s in sources]
    sources[1] = ImageSource(feature=single[1].feature)
    batch = await stub.Classify(pb.ClassifyRequest(sources=sources, max_cells=3))
    for one, many in zip(single, batch.results, strict=True):
        assert [c.cell_id for c in many.scores.cells] == [c.cell_id for c in one.scores.cells][:3]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.ClassifyRequest(), Reason.BATCH_EMPTY),
        (pb.ClassifyRequest(sources=[ImageSource(image=b"x")] * 5), Reason.BATCH_TOO_LARGE),
        (pb.ClassifyRequest(sources=[ImageSource()]), Reason.IMAGE_MISSING),
        (pb.ClassifyRequest(sources=[ImageSource(image=b"")]), Reason.IMAGE_EMPTY),
        (pb.ClassifyRequest(sources=[ImageSource(image=b"no image")]), Reason.IMAGE_UNREADABLE),
        (pb.ClassifyRequest(sources=[ImageSource(image=b"x" * 100_001)]), Reason.IMAGE_TOO_MANY_BYTES),
        (pb.ClassifyRequest(sources=[ImageSource(feature=b"1234")]), Reason.FEATURE_INVALID),
        (
            pb.ClassifyRequest(sources=[ImageSource(feature=pack_vector([np.nan] * FEATURE_DIM))]),
            Reason.FEATURE_INVALID,
        ),
        (pb.ClassifyRequest(sources=[ImageSource(image=grey_image())], max_cells=1025), Reason.OPTION_INVALID),
    ],
)
async def test_bad_input_is_refused_with_its_reason(
    channel: grpc.aio.Channel, request_: pb.ClassifyRequest, reason: Reason
) -> None:
    error = await refusal(rpc.ClassifierServiceStub(channel).Classify(request_))
    assert isinstance(error, InvalidInput)
    assert error.reason is reason


async def test_the_refused_item_of_a_batch_is_named(channel: grpc.aio.Channel) -> None:
    sources = [ImageSource(image=grey_image()), ImageSource(image=b"no image")]
    error = await refusal(rpc.ClassifierServiceStub(channel).Classify(pb.ClassifyRequest(sources=sources)))
    assert error.metadata["index"] == "1"


async def test_info_publishes_the_limits(channel: grpc.aio.Channel, bundle: Bundle) -> None:
    info = await rpc.ClassifierServiceStub(channel).GetModelInfo(pb.ClassifierServiceGetModelInfoRequest())
    assert info.model_version == bundle.version
    assert info.limits.max_batch == 4
    assert info.limits.max_image_bytes == 100_000
    assert list(info.providers) == ["CPUExecutionProvider"]


async def test_a_full_queue_is_said_at_once(bundle: Bundle) -> None:
    settings = ClassifierSettings(listen=LISTEN, bundle=bundle.directory, max_queue=1)
    async with running(ClassifierService(settings), settings) as channel:
        sources = [ImageSource(image=grey_image())] * 3  # of which the queue takes one
        error = await refusal(rpc.ClassifierServiceStub(channel).Classify(pb.ClassifyRequest(sources=sources)))
    assert isinstance(error, Overloaded)
    assert error.reason is Reason.QUEUE_FULL
    assert error.metadata["limit"] == "1"
    assert error.retry_after_s is not None  # from google.rpc.RetryInfo
    assert 0 < error.retry_after_s <= 5


async def test_a_provider_that_is_not_there_keeps_it_from_ready_and_says_so(bundle: Bundle) -> None:
    settings = ClassifierSettings(listen=LISTEN, bundle=bundle.directory, providers="CUDAExecutionProvider")
    service = ClassifierService(settings)
    async with running(service, settings, ready=False) as channel:
        error = await refusal(rpc.ClassifierServiceStub(channel).Classify(pb.ClassifyRequest()))
        while error.reason is Reason.SERVICE_UNAVAILABLE:  # still starting
            error = await refusal(rpc.ClassifierServiceStub(channel).Classify(pb.ClassifyRequest()))
        assert isinstance(error, MismatchError)
        assert error.reason is Reason.PROVIDER_MISMATCH
        assert error.metadata["asked"] == "CUDAExecutionProvider"
        assert await state_of(channel, service.full_name) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await state_of(channel, "") == health_pb2.HealthCheckResponse.SERVING


async def test_a_changed_bundle_is_refused_by_name(tmp_path: Path) -> None:
    damaged = make_bundle(tmp_path / "damaged")
    path = damaged.path("classifier.onnx")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    settings = ClassifierSettings(listen=LISTEN, bundle=damaged.directory)
    async with running(ClassifierService(settings), settings, ready=False) as channel:
        error = await refusal(rpc.ClassifierServiceStub(channel).Classify(pb.ClassifyRequest()))
        while error.reason is Reason.SERVICE_UNAVAILABLE:
            error = await refusal(rpc.ClassifierServiceStub(channel).Classify(pb.ClassifyRequest()))
    assert error.reason is Reason.BUNDLE_INVALID
    assert "classifier.onnx" in error.message


async def test_reflection_lists_the_service(bundle: Bundle) -> None:
    settings = ClassifierSettings(listen=LISTEN, bundle=bundle.directory)
    from geofix.server import Server

    server = Server(settings, ClassifierService(settings))
    await server.start()
    try:
        import asyncio

        def names() -> list[str]:
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                return list(ProtoReflectionDescriptorDatabase(channel).get_services())

        assert "geofix.v1.ClassifierService" in await asyncio.to_thread(names)
    finally:
        await server.stop()


async def test_an_unknown_exception_does_not_reach_the_client(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("geofix_classifier.service.check_batch", leak)
    error = await refusal(rpc.ClassifierServiceStub(channel).Classify(pb.ClassifyRequest()))
    assert error.reason is Reason.INTERNAL
    assert "secret" not in error.message


async def test_a_bundle_of_features_classifies_features_and_refuses_images(bundle: Bundle, tmp_path: Path) -> None:
    given = make_bundle(tmp_path, takes="feature")
    settings = ClassifierSettings(listen=LISTEN, bundle=given.directory)
    feature = LocalEngine(bundle).feature(image_of(48.0, 11.0))
    async with running(ClassifierService(settings), settings) as channel:
        stub = rpc.ClassifierServiceStub(channel)
        answered = await stub.Classify(pb.ClassifyRequest(sources=[ImageSource(feature=pack_vector(feature))]))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Classify(pb.ClassifyRequest(sources=[ImageSource(image=image_of(48.0, 11.0))]))
    scores = LocalEngine(bundle).heads(feature[None])[0].cells
    assert [cell.cell_id for cell in answered.results[0].scores.cells] == scores.cell_id.tolist()
    assert answered.results[0].feature == pack_vector(feature)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"takes features of {FEATURE_DIM} values, not images" in str(refused.value.details())
