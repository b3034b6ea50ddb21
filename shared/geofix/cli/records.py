"""What programs read: a JSON object or a CSV row for each photo, or one GeoJSON collection of all."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from typing import Any

from geofix.cli.answers import Answered
from geofix.cli.output import Truth, distance_to, printable
from geofix.client import Location
from geofix.client.geojson import features_of
from geofix.places import describe

Place = tuple[float, float] | None


def json_line(answered: Answered[Location], truth: Place, top: int = 0) -> str:
    """The JSON object of one photo on one line."""
    return json.dumps(record(answered, truth, top), ensure_ascii=False)


def record(answered: Answered[Location], truth: Place, top: int = 0) -> dict[str, Any]:
    """The JSON object of one photo; lengths in km, times in milliseconds."""
    name, location = printable(answered.source.name), answered.value
    if location is None:
        assert answered.error is not None
        return {
            "file": name,
            "error": answered.error.message,
            "reason": answered.error.reason.value,
            "metadata": answered.error.metadata,
        }
    out: dict[str, Any] = {
        "file": name,
        "lat": round(location.lat, 6),
        "lon": round(location.lon, 6),
        "place": describe(location.lat, location.lon),
        "localizable": location.localizable,
        "radius_km": _km(location.radius_m(0.9)),
        "radius_50_km": _km(location.radius_m(0.5)),
        "method": location.method,
        "strategy": location.strategy,
    }
    if location.degraded:
        out |= {"degraded": True, "degraded_reason": location.degraded_reason}
    if truth is not None:
        out["distance_km"] = distance_to(answered, truth)
    if top:
        out["alternatives"] = [
            {
                "lat": round(a.lat, 6),
                "lon": round(a.lon, 6),
                "place": describe(a.lat, a.lon),
                "weight": round(a.weight, 4),
                "neighbors": a.neighbors,
            }
            for a in location.alternatives[:top]
        ]
    if location.density:
        out["density"] = [{"s2_token": c.s2_token, "probability": round(c.probability, 6)} for c in location.density]
    return out | {
        "model_version": location.model_version,
        "gallery_version": location.gallery_version,
        "cached": location.cached,
        "elapsed_ms": round(answered.elapsed_s * 1000, 1),
    }


class CsvRows:
    """Writes a heading and then a row for each photo to standard output, as they come."""

    COLUMNS = (
        "file", "lat", "lon", "place", "localizable", "radius_km", "radius_50_km", "method", "strategy", "degraded",
        "distance_km", "model_version", "gallery_version", "cached", "elapsed_ms", "reason", "error",
    )  # fmt: skip

    def __init__(self) -> None:
        self._writer = csv.DictWriter(sys.stdout, self.COLUMNS, extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()

    def write(self, answered: Answered[Location], truth: Place) -> None:
        """Write the row of one photo; what it has no value for is empty."""
        row = record(answered, truth)
        self._writer.writerow({name: _cell(value) for name, value in row.items()})
        sys.stdout.flush()


def feature_collection(answers: Sequence[Answered[Location]], truth: Truth) -> str:
    """All answers as GeoJSON: estimates, radii and alternatives, each with the name of its file; failed photos are left out."""
    features = []
    for answered in answers:
        if answered.value is None:
            continue
        place = truth(answered.source)
        for feature in features_of(answered.value):
            feature["properties"]["file"] = printable(answered.source.name)
            if place is not None and feature["properties"]["kind"] == "estimate":
                feature["properties"]["distance_km"] = distance_to(answered, place)
            features.append(feature)
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    # A spreadsheet would run a text that begins so as a formula.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _km(metres: float | None) -> float | None:
    return None if metres is None else round(metres / 1000, 3)
