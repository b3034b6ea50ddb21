"""The embedder over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest

from bundle_factory import EMBEDDING_DIM, FEATURE_DIM, grey_image, image_of, make_bundle
from geofix.bundle import Bundle
from geofix.errors import Reason
from geofix.local import LocalEngine
from geofix.v1 import embedder_service_pb2 as pb
from geofix.v1 import embedder_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from geofix.vectors import pack_vector, unpack_vector
from geofix_embedder.service import EmbedderService
from geofix_embedder.settings import EmbedderSettings
from running import LISTEN, refusal, running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
async def channel(bundle: Bundle) -> AsyncIterator[grpc.aio.Channel]:
    settings = EmbedderSettings(listen=LISTEN, bundle=bundle.directory, max_batch=4)
    async with running(EmbedderService(settings), settings) as open_channel:
        yield open_channel


async def test_embeddings_equal_the_local_engine_and_are_unit(channel: grpc.aio.Channel, bundle: Bundle) -> None:
    engine = LocalEngine(bundle)
    features = np.stack([engine.feature(image_of(lat, 20.0)) for lat in (10.0, 50.0)])
    sources = [ImageSource(feature=pack_vector(f)) for f in features]
    response = await rpc.EmbedderServiceStub(channel).Embed(pb.EmbedRequest(sources=sources))
    for data, heads in zip(response.embeddings, engine.heads(features), strict=True):
        vector = unpack_vector(data, EMBEDDING_DIM, Reason.EMBEDDING_INVALID, unit=True)
        np.testing.assert_allclose(vector, heads.embedding, atol=1e-6)
    assert response.model_version == bundle.version


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        ([], Reason.BATCH_EMPTY),
        ([ImageSource(feature=b"\0" * 4 * FEATURE_DIM)] * 5, Reason.BATCH_TOO_LARGE),
        ([ImageSource(feature=b"\0" * 4 * (FEATURE_DIM + 1))], Reason.FEATURE_INVALID),
        ([ImageSource(feature=pack_vector([np.inf] * FEATURE_DIM))], Reason.FEATURE_INVALID),
        ([ImageSource(image=grey_image())], Reason.IMAGE_FORMAT_UNSUPPORTED),
        ([ImageSource()], Reason.IMAGE_MISSING),
    ],
)
async def test_bad_input_is_refused_with_its_reason(
    channel: grpc.aio.Channel, sources: list[ImageSource], reason: Reason
) -> None:
    error = await refusal(rpc.EmbedderServiceStub(channel).Embed(pb.EmbedRequest(sources=sources)))
    assert error.reason is reason


async def test_images_are_embedded_where_the_operator_allows_it(bundle: Bundle) -> None:
    settings = EmbedderSettings(listen=LISTEN, bundle=bundle.directory, embed_images=True)
    data = image_of(10.0, 20.0)
    feature = LocalEngine(bundle).feature(data)
    async with running(EmbedderService(settings), settings) as channel:
        stub = rpc.EmbedderServiceStub(channel)
        sources = [ImageSource(image=data), ImageSource(feature=pack_vector(feature))]
        by_image, by_feature = (await stub.Embed(pb.EmbedRequest(sources=sources))).embeddings
        info = await stub.GetModelInfo(pb.EmbedderServiceGetModelInfoRequest())
    np.testing.assert_allclose(np.frombuffer(by_image, "<f4"), np.frombuffer(by_feature, "<f4"), atol=1e-6)
    assert info.embeds_images
    assert info.embedding_dim == EMBEDDING_DIM
