"""What the client hands out: an answer as plain, immutable Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Place(Protocol):
    """Whatever has a latitude and a longitude in degrees: another answer, an alternative, a neighbour."""

    @property
    def lat(self) -> float:
        """Degrees."""

    @property
    def lon(self) -> float:
        """Degrees."""


@dataclass(frozen=True)
class Alternative:
    """A place that a cluster of neighbours supports.

    Attributes:
        lat: degrees.
        lon: degrees.
        weight: sum of the posterior weights of its neighbours, 0 to 1.
        neighbors: how many neighbours lie in it.
    """

    lat: float
    lon: float
    weight: float
    neighbors: int


@dataclass(frozen=True)
class Cell:
    """A cell of the Earth as the classifier weighs it for the image.

    Attributes:
        cell_id: row number in the bundle.
        log_weight: natural logarithm of its mixture weight.
        lat: of the component's mean, degrees.
        lon: of the component's mean, degrees.
        kappa: the component's concentration, natural scale.
        s2_tokens: the S2 cells that make it up.
    """

    cell_id: int
    log_weight: float
    lat: float
    lon: float
    kappa: float
    s2_tokens: tuple[str, ...]


@dataclass(frozen=True)
class Neighbor:
    """A gallery image near the query.

    Attributes:
        id: content hash, hex.
        lat: where it was taken, degrees.
        lon: where it was taken, degrees.
        cell_id: the cell that it belongs to.
        similarity: cosine of the embeddings, -1 to 1.
        weight: its part in the answer, 0 to 1.
        alternative: position of its cluster among all alternatives, from 0; -1 if it belongs to none.
        picture: where its picture is; empty if unknown.
        attribution: whom to credit for it; empty if unknown.
    """

    id: str
    lat: float
    lon: float
    cell_id: int
    similarity: float
    weight: float
    alternative: int
    picture: str
    attribution: str


@dataclass(frozen=True)
class DensityCell:
    """An S2 cell (as a token) and the probability that the image was taken in it."""

    s2_token: str
    probability: float


@dataclass(frozen=True)
class Timing:
    """Milliseconds that the platform spent, in all and by stage; stages that did not run are 0."""

    total_ms: float = 0.0
    cache_ms: float = 0.0
    classify_ms: float = 0.0
    embed_ms: float = 0.0
    search_ms: float = 0.0
    aggregate_ms: float = 0.0
    preprocess_ms: float = 0.0
    inference_ms: float = 0.0
    database_ms: float = 0.0
    queue_ms: float = 0.0


@dataclass(frozen=True)
class Location:
    """Where an image was taken, how sure that is, and the evidence.

    Attributes:
        lat: the estimate, degrees; a mere guess where `localizable` is false.
        lon: the estimate, degrees.
        localizable: whether the image is of the kind that the model can place.
        method: where the estimate came from: "cell_search", "gallery_search" or "cell_mean".
        strategy: how it was made: "posterior", "swc", "classification" or "retrieval".
        radii: probability -> radius in metres within which the truth lies with it; empty where there are none.
        calibrated: whether radii were fitted for this model, gallery and strategy.
        alternatives: places that the evidence supports, the best supported first.
        cells: the best cells, the heaviest first.
        neighbors: the best neighbours, the most similar first.
        neighbors_used: how many neighbours the estimate was made from.
        model_version: `<bundle>@<content hash>`.
        gallery_version: the gallery that was searched; empty if none was.
        cached: whether the answer came from the cache.
        timing: where the platform's time went.
        degraded: whether the search was left out because a service did not answer; only where the options allow it.
        degraded_reason: why, as in `GeofixError.reason`; empty if it is not degraded.
        degraded_message: the same for people.
        density: where else the image may be from, if that was asked for; probabilities sum to 1, the largest first.
    """

    lat: float
    lon: float
    localizable: bool
    method: str
    strategy: str
    radii: Mapping[float, float] = field(default_factory=dict)
    calibrated: bool = False
    alternatives: tuple[Alternative, ...] = ()
    cells: tuple[Cell, ...] = ()
    neighbors: tuple[Neighbor, ...] = ()
    neighbors_used: int = 0
    model_version: str = ""
    gallery_version: str = ""
    cached: bool = False
    timing: Timing = Timing()
    degraded: bool = False
    degraded_reason: str = ""
    degraded_message: str = ""
    density: tuple[DensityCell, ...] = ()

    def radius_m(self, probability: float) -> float | None:
        """The radius in metres for a probability that was asked for, or None."""
        return self.radii.get(probability)

    def distance_to(self, place: Place | tuple[float, float]) -> float:
        """Great-circle distance in metres of the estimate to a place: (lat, lon) in degrees, or anything that has them."""
        from geofix.geo import haversine_km

        lat, lon = place if isinstance(place, tuple) else (place.lat, place.lon)
        return 1000 * float(haversine_km(self.lat, self.lon, lat, lon))

    def _repr_html_(self) -> str:
        """The answer with a map, for notebooks: drawn here, without a request to anywhere."""
        from geofix.client.html import html_of

        return html_of(self)

    def geojson(self) -> dict[str, Any]:
        """The answer as a GeoJSON FeatureCollection: estimate, radii, alternatives, cells and neighbours (`kind` says which).

        The outlines of the density's cells, where it was asked for, need the package s2cell.
        """
        from geofix.client.geojson import features_of

        return {"type": "FeatureCollection", "features": features_of(self)}


@dataclass(frozen=True)
class ServiceInfo:
    """What a deployment serves.

    Attributes:
        model_version: `<bundle>@<content hash>`.
        gallery_version: the live gallery.
        feature_dim: values of a feature, for `locate_feature`.
        calibrated: whether the default strategy's answers carry radii.
        max_image_bytes: most bytes of an image.
        max_image_pixels: most pixels of an image.
        max_batch: most images of one batch.
        max_message_bytes: most bytes of one message.
    """

    model_version: str
    gallery_version: str
    feature_dim: int
    calibrated: bool
    max_image_bytes: int
    max_image_pixels: int
    max_batch: int
    max_message_bytes: int
