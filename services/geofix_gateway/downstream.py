"""The gateway's calls of the other services, over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from geofix.area import Area
from geofix.bundle import Bundle
from geofix.channel import open_channel
from geofix.decision import SearchPlan
from geofix.errors import DeadlineExceeded, GeofixError, MismatchError, Reason, Unavailable
from geofix.geo import latlon_to_xyz
from geofix.outgoing import answer_of
from geofix.posterior import CellScores, Neighbors
from geofix.search_area import area_to_message
from geofix.telemetry.spans import outgoing_metadata
from geofix.tls import peer_credentials
from geofix.v1 import (
    classifier_service_pb2,
    classifier_service_pb2_grpc,
    embedder_service_pb2,
    embedder_service_pb2_grpc,
    retrieval_service_pb2,
    retrieval_service_pb2_grpc,
    types_pb2,
)
from geofix.wire import error_from_rpc
from geofix_gateway.breaker import Breaker
from geofix_gateway.locate import Classified, Deadline, Found, Source
from geofix_gateway.settings import GatewaySettings

T = TypeVar("T")

MOST_MARGIN = 0.1
"""Largest share of the time left that the margin may take: short deadlines are for the services, too."""
FAILURES, PAUSE_S, MOST_PAUSE_S = 5, 0.5, 2.0
"""After so many failures in a row a service of the search is left alone, but for one call in each pause."""
FAIR_S = 1.0
"""A call that was given less time than this and ran out of it says nothing about the service."""
WORTH_S = 0.1
"""A call that ran out of time is made again if its deadline has moved back by more than this."""
_NO_FIELDS: Mapping[str, str] = MappingProxyType({})


def within(seconds: float) -> Deadline:
    """A deadline from now."""
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


@dataclass(frozen=True)
class GalleryState:
    """The live gallery: its version, the model that it was built with, and the JSON of its calibration (empty: none)."""

    version: str
    model_version: str
    calibration: str


class GrpcDownstream:
    """Classifier, embedder and retrieval behind gRPC channels."""

    def __init__(self, settings: GatewaySettings, bundle: Bundle) -> None:
        self._bundle = bundle
        self._margin_s = settings.deadline_margin_s
        # Not the classifier: nothing can be answered without it, and its own queue refuses what would be late.
        self._breakers = {name: Breaker(FAILURES, PAUSE_S, MOST_PAUSE_S) for name in ("embedder", "retrieval")}
        size = settings.max_message_bytes
        self._addresses = {
            "classifier": settings.classifier_addr,
            "embedder": settings.embedder_addr,
            "retrieval": settings.retrieval_addr,
        }
        peer = peer_credentials(settings.tls)
        self._channels = {name: open_channel(address, size, peer) for name, address in self._addresses.items()}
        self._classifier = classifier_service_pb2_grpc.ClassifierServiceStub(self._channels["classifier"])
        self._embedder = embedder_service_pb2_grpc.EmbedderServiceStub(self._channels["embedder"])
        self._retrieval = retrieval_service_pb2_grpc.RetrievalServiceStub(self._channels["retrieval"])

    async def classify(self, source: Source, left: Deadline, max_cells: int = 0) -> Classified:
        """Cell scores and the feature; the cells' means are the bundle's."""
        if source.image is not None:
            item = types_pb2.ImageSource(image=source.image)
        else:
            item = types_pb2.ImageSource(feature=source.feature or b"")
        request = classifier_service_pb2.ClassifyRequest(sources=[item], max_cells=max_cells, with_embedding=True)
        response = await self._call("classifier", self._classifier.Classify, request, left)
        self._same_model("classifier", response.model_version)
        result = response.results[0]
        cell_id = np.array([cell.cell_id for cell in result.scores.cells], np.int32)
        log_weight = np.array([cell.log_weight for cell in result.scores.cells])
        scores = CellScores(
            cell_id,
            log_weight,
            self._bundle.cells.xyz[cell_id],
            result.scores.entropy,
            result.scores.prediction_density,
            result.scores.domain_score,
        )
        parts_ms = {
            "preprocess": result.preprocess_ms,
            "queue": result.queue_ms,
            "inference": result.inference_ms,
        }
        return Classified(scores, result.feature, parts_ms, result.embedding)

    async def embed(self, feature: bytes, left: Deadline) -> bytes:
        """The embedding of a feature."""
        request = embedder_service_pb2.EmbedRequest(sources=[types_pb2.ImageSource(feature=feature)])
        response = await self._guarded("embedder", self._embedder.Embed, request, left)
        self._same_model("embedder", response.model_version)
        return response.embeddings[0]

    async def search(
        self, embedding: bytes, search: SearchPlan, area: Area | None, gallery_version: str, left: Deadline
    ) -> Found:
        """The neighbours inside the plan's cells and the area, best first."""
        where = None if area is None else area_to_message(area)
        query = retrieval_service_pb2.SearchQuery(embedding=embedding, cell_ids=search.cells, k=search.k, area=where)
        request = retrieval_service_pb2.SearchRequest(queries=[query], gallery_version=gallery_version)
        response = await self._guarded("retrieval", self._retrieval.Search, request, left)
        hits = list(response.results[0].neighbors)
        places = [hit.location for hit in hits]
        neighbors = Neighbors(
            np.array([hit.cell_id for hit in hits], np.int32),
            latlon_to_xyz([place.latitude for place in places], [place.longitude for place in places]),
            np.array([hit.similarity for hit in hits]),
        )
        return Found(
            neighbors,
            tuple([hit.id for hit in hits]),
            tuple([hit.picture for hit in hits]),
            tuple([hit.attribution for hit in hits]),
            tuple([dict(hit.fields) if hit.fields else _NO_FIELDS for hit in hits]),
            {"database": response.search_ms},
        )

    async def gallery(self, timeout_s: float) -> GalleryState:
        """The live gallery.

        Raises:
            GeofixError: retrieval cannot say.
        """
        request = retrieval_service_pb2.GetGalleryInfoRequest()
        response = await self._call("retrieval", self._retrieval.GetGalleryInfo, request, within(timeout_s))
        return GalleryState(response.gallery_version, response.model_version, response.calibration)

    async def check(self, timeout_s: float) -> None:
        """Whether every service is ready, over this gateway's model.

        Raises:
            Unavailable: naming those that are not.
            MismatchError: MODEL_MISMATCH; one serves another bundle.
        """
        names = {
            "classifier": "geofix.v1.ClassifierService",
            "embedder": "geofix.v1.EmbedderService",
            "retrieval": "geofix.v1.RetrievalService",
        }
        states = await asyncio.gather(*(self._is_serving(name, full, timeout_s) for name, full in names.items()))
        down = [self._label(name) for name, serving in zip(names, states, strict=True) if not serving]
        if down:
            raise Unavailable(f"not ready: {', '.join(down)}", metadata={"service": ", ".join(down)})
        classifier, embedder = await asyncio.gather(
            self._call(
                "classifier",
                self._classifier.GetModelInfo,
                classifier_service_pb2.ClassifierServiceGetModelInfoRequest(),
                within(timeout_s),
            ),
            self._call(
                "embedder",
                self._embedder.GetModelInfo,
                embedder_service_pb2.EmbedderServiceGetModelInfoRequest(),
                within(timeout_s),
            ),
        )
        self._same_model("classifier", classifier.model_version)
        self._same_model("embedder", embedder.model_version)

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            await channel.close()

    async def _is_serving(self, name: str, full_name: str, timeout_s: float) -> bool:
        stub = health_pb2_grpc.HealthStub(self._channels[name])
        try:
            response = await stub.Check(health_pb2.HealthCheckRequest(service=full_name), timeout=timeout_s)
        except grpc.RpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def _guarded(self, name: str, method: Callable[..., Awaitable[T]], request: object, left: Deadline) -> T:
        breaker = self._breakers[name]
        if not breaker.allows():
            raise Unavailable(
                f"the {self._label(name)} has failed {FAILURES} times in a row, and is tried again in a moment",
                metadata={"service": f"the {self._label(name)}"},
            )
        given_s = left()
        try:
            response = await self._call(name, method, request, left)
        except (Unavailable, DeadlineExceeded) as error:
            if isinstance(error, Unavailable) or given_s >= FAIR_S:
                breaker.failed()
            raise
        except GeofixError:
            breaker.succeeded()  # it answered
            raise
        breaker.succeeded()
        return response

    async def _call(self, name: str, method: Callable[..., Awaitable[T]], request: object, left: Deadline) -> T:
        while True:
            left_s = left()
            if left_s <= 0:
                raise DeadlineExceeded(f"no time was left to ask the {self._label(name)}", metadata={"service": name})
            end = time.monotonic() + left_s
            try:
                timeout_s = left_s - min(self._margin_s, left_s * MOST_MARGIN)
                return await answer_of(method(request, timeout=timeout_s, metadata=outgoing_metadata()))
            except grpc.RpcError as error:
                failure = error_from_rpc(error, f"the {self._label(name)}")
                failure.metadata.pop("index", None)  # the position in a call of one; our client may have sent a batch
                if isinstance(failure, DeadlineExceeded) and time.monotonic() + left() > end + WORTH_S:
                    continue  # someone who can wait longer has joined meanwhile
                raise failure from error

    def _label(self, name: str) -> str:
        return f"{name} at {self._addresses[name]}"

    def _same_model(self, name: str, model_version: str) -> None:
        if model_version != self._bundle.version:
            raise MismatchError(
                f"the {self._label(name)} serves {model_version}, this gateway {self._bundle.version}: "
                "give all services the same GEOFIX_BUNDLE",
                Reason.MODEL_MISMATCH,
                {"service": name, "service_model_version": model_version, "model_version": self._bundle.version},
            )
