"""What the JSON API answers: the client's results as documents with a schema."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, Field

from geofix.client import Location, Neighbor, ServiceInfo
from geofix.errors import GeofixError
from geofix.geo import haversine_km
from geofix.outlines import outline
from geofix.places import describe
from geofix_web.problems import Problem, problem_of

Lat = Field(ge=-90, le=90, description="WGS84 degrees")
Lon = Field(ge=-180, le=180, description="WGS84 degrees")


class RadiusOut(BaseModel):
    """A radius with its probability."""

    probability: float = Field(description="probability that the truth lies inside")
    radius_m: float = Field(description="metres on the great circle")


class AlternativeOut(BaseModel):
    """A place that a cluster of neighbours supports."""

    lat: float = Lat
    lon: float = Lon
    place: str = Field(description="such as: near Aswan, Egypt")
    weight: float = Field(description="sum of the posterior weights of its neighbours, 0 to 1")
    neighbors: int = Field(description="neighbours in it")


class CellOut(BaseModel):
    """A cell of the Earth as the classifier weighs it."""

    cell_id: int
    probability: float = Field(description="its mixture weight, 0 to 1")
    lat: float = Lat
    lon: float = Lon
    kappa: float = Field(description="concentration of its component, natural scale")
    s2_tokens: list[str] = Field(description="the S2 cells that make it up")
    outline: dict[str, Any] | None = Field(description="GeoJSON MultiPolygon of them, where outlines were asked for")


class NeighborOut(BaseModel):
    """A gallery image near the query in the embedding space."""

    id: str = Field(description="content hash, hex")
    lat: float = Lat
    lon: float = Lon
    place: str
    distance_m: float = Field(description="to the estimate")
    similarity: float = Field(description="cosine of the embeddings, -1 to 1")
    weight: float = Field(description="its part in the answer, 0 to 1")
    alternative: int = Field(description="position of its cluster among the alternatives, -1 for none")
    cell_id: int
    picture: str = Field(description="where its picture is: a URL or a `crop:` description; empty if unknown")
    thumbnail: str | None = Field(description="path of a small picture of it on this server, or null")
    attribution: str = Field(description="whom to credit; empty if unknown")


class TimingOut(BaseModel):
    """Milliseconds that the platform spent, by stage."""

    total_ms: float
    cache_ms: float
    classify_ms: float
    embed_ms: float
    search_ms: float
    aggregate_ms: float


class LocationOut(BaseModel):
    """Where an image was taken, how sure that is, and the evidence."""

    lat: float = Lat
    lon: float = Lon
    place: str = Field(description="the populated place nearest to the estimate")
    localizable: bool = Field(
        description="whether the image is of the kind that the model can place; if not, this is a guess"
    )
    method: str
    strategy: str
    calibrated: bool = Field(description="whether radii were fitted for this model, gallery and strategy")
    radii: list[RadiusOut]
    alternatives: list[AlternativeOut]
    cells: list[CellOut]
    neighbors: list[NeighborOut]
    neighbors_used: int
    degraded: bool = Field(description="whether the search was left out because a service did not answer")
    degraded_reason: str = Field(description="the name of the ErrorReason; empty if it is not degraded")
    degraded_message: str
    model_version: str
    gallery_version: str
    cached: bool
    timing: TimingOut


class BatchItemOut(BaseModel):
    """The answer for one image of a batch, or its error."""

    location: LocationOut | None = None
    problem: Problem | None = None


class BatchOut(BaseModel):
    """One result an image, in their order."""

    results: list[BatchItemOut]


class MeverPrediction(BaseModel):
    """The fields of the MeVer location estimation service's prediction."""

    latitude: float = Lat
    longitude: float = Lon
    confidence: float = Field(description="sum of the weights of the neighbours in the best supported cluster, 0 to 1")
    retrieved_images: list[dict[str, Any]]


class MeverOut(BaseModel):
    """An answer with the field names of the MeVer location estimation service; empty where the image cannot be located."""

    predictions: list[MeverPrediction]


class InfoOut(BaseModel):
    """What this deployment serves."""

    version: str = Field(description="of geofix")
    model_version: str
    gallery_version: str
    feature_dim: int
    calibrated: bool
    max_image_bytes: int
    max_image_pixels: int
    max_batch: int


class State(BaseModel):
    """Whether the service is alive or ready."""

    status: Literal["ok", "ready"]


Thumbnail = Callable[[str, Neighbor], str | None]
"""From a gallery version and a neighbour to the path of a small picture of it."""


def location_out(found: Location, thumbnail: Thumbnail, outlines: bool) -> LocationOut:
    """The document of an answer."""
    return LocationOut(
        lat=found.lat,
        lon=found.lon,
        place=describe(found.lat, found.lon),
        localizable=found.localizable,
        method=found.method,
        strategy=found.strategy,
        calibrated=found.calibrated,
        radii=[RadiusOut(probability=p, radius_m=m) for p, m in found.radii.items()],
        alternatives=[
            AlternativeOut(lat=a.lat, lon=a.lon, place=describe(a.lat, a.lon), weight=a.weight, neighbors=a.neighbors)
            for a in found.alternatives
        ],
        cells=[
            CellOut(
                cell_id=c.cell_id,
                probability=math.exp(c.log_weight),
                lat=c.lat,
                lon=c.lon,
                kappa=c.kappa,
                s2_tokens=list(c.s2_tokens),
                outline=outline(c.s2_tokens) if outlines else None,
            )
            for c in found.cells
        ],
        neighbors=[
            NeighborOut(
                id=n.id,
                lat=n.lat,
                lon=n.lon,
                place=describe(n.lat, n.lon),
                distance_m=1000 * float(haversine_km(found.lat, found.lon, n.lat, n.lon)),
                similarity=n.similarity,
                weight=n.weight,
                alternative=n.alternative,
                cell_id=n.cell_id,
                picture=n.picture,
                thumbnail=thumbnail(found.gallery_version, n),
                attribution=n.attribution,
            )
            for n in found.neighbors
        ],
        neighbors_used=found.neighbors_used,
        degraded=found.degraded,
        degraded_reason=found.degraded_reason,
        degraded_message=found.degraded_message,
        model_version=found.model_version,
        gallery_version=found.gallery_version,
        cached=found.cached,
        timing=TimingOut(**vars(found.timing)),
    )


def batch_item(result: Location | GeofixError, thumbnail: Thumbnail, outlines: bool) -> BatchItemOut:
    """The document of one image of a batch."""
    if isinstance(result, GeofixError):
        return BatchItemOut(problem=problem_of(result))
    return BatchItemOut(location=location_out(result, thumbnail, outlines))


def mever_out(found: Location) -> MeverOut:
    """The document of an answer for clients of the MeVer location estimation service."""
    if not found.localizable:
        return MeverOut(predictions=[])
    images = [
        {"id": n.id, "latitude": n.lat, "longitude": n.lon, "similarity": n.similarity, "url": n.picture}
        for n in found.neighbors
    ]
    confidence = min(1.0, found.alternatives[0].weight) if found.alternatives else 0.0
    best = MeverPrediction(latitude=found.lat, longitude=found.lon, confidence=confidence, retrieved_images=images)
    return MeverOut(predictions=[best])


def info_out(info: ServiceInfo, version: str, max_image_bytes: int, max_batch: int) -> InfoOut:
    """The document of a deployment; where the edge's limits are lower than the gateway's, they hold."""
    return InfoOut(
        version=version,
        model_version=info.model_version,
        gallery_version=info.gallery_version,
        feature_dim=info.feature_dim,
        calibrated=info.calibrated,
        max_image_bytes=min(info.max_image_bytes, max_image_bytes),
        max_image_pixels=info.max_image_pixels,
        max_batch=min(info.max_batch, max_batch),
    )
