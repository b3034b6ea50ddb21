"""An answer as GeoJSON (RFC 7946): longitude first, every feature says in `kind` what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geofix.circle import circle_rings

if TYPE_CHECKING:
    from geofix.client.location import DensityCell, Location


def features_of(location: Location) -> list[dict[str, Any]]:
    """The estimate first, then its radii from the smallest, the alternatives, the cells' means, the neighbours, the density."""
    estimate = {
        "kind": "estimate",
        "localizable": location.localizable,
        "method": location.method,
        "strategy": location.strategy,
        "radii_m": {f"{probability:g}": radius for probability, radius in location.radii.items()},
        "calibrated": location.calibrated,
        "model_version": location.model_version,
        "gallery_version": location.gallery_version,
    }
    return [
        _point(location.lat, location.lon, estimate),
        *(_radius(location, probability) for probability in sorted(location.radii)),
        *(
            _point(a.lat, a.lon, {"kind": "alternative", "rank": rank, "weight": a.weight, "neighbors": a.neighbors})
            for rank, a in enumerate(location.alternatives, 1)
        ),
        *(
            _point(
                c.lat,
                c.lon,
                {"kind": "cell", "cell_id": c.cell_id, "log_weight": c.log_weight, "s2_tokens": list(c.s2_tokens)},
            )
            for c in location.cells
        ),
        *(
            _point(
                n.lat,
                n.lon,
                {
                    "kind": "neighbor",
                    "id": n.id,
                    "similarity": n.similarity,
                    "weight": n.weight,
                    "alternative": n.alternative,
                    "picture": n.picture,
                    "attribution": n.attribution,
                },
            )
            for n in location.neighbors
        ),
        *(_density(cell) for cell in location.density),
    ]


def _density(cell: DensityCell) -> dict[str, Any]:
    from geofix.outlines import outline  # needs s2cell, which the base install lacks

    properties = {"kind": "density", "s2_token": cell.s2_token, "probability": cell.probability}
    return {"type": "Feature", "geometry": outline([cell.s2_token]), "properties": properties}


def _radius(location: Location, probability: float) -> dict[str, Any]:
    radius_m = location.radii[probability]
    rings = circle_rings(location.lat, location.lon, radius_m)
    geometry: dict[str, Any] = (
        {"type": "Polygon", "coordinates": rings}
        if len(rings) == 1
        else {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}
    )
    properties = {"kind": "radius", "probability": probability, "radius_m": radius_m}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _point(lat: float, lon: float, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": "Point", "coordinates": [lon, lat]}, "properties": properties}
