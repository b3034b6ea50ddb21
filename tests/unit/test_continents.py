"""Continents of places: inside countries, in parts of countries that lie elsewhere, and off the coast."""

from __future__ import annotations

from geofix.continents import CONTINENTS, COUNTRIES, continents_of, on_the_map
from geofix.countries import country_codes

PLACES = {
    "Paris": (48.86, 2.35, "Europe"),
    "Cayenne": (4.92, -52.31, "South America"),
    "Réunion": (-21.1, 55.5, "Africa"),
    "Novosibirsk": (55.03, 82.92, "Europe"),
    "Ankara": (39.93, 32.86, "Asia"),
    "Panama": (8.98, -79.52, "North America"),
    "Suva": (-18.14, 178.44, "Oceania"),
    "South Pole": (-90.0, 0.0, "Antarctica"),
    "off Cape Town": (-34.5, 17.0, "Africa"),
    "west of Chile": (-35.0, -76.0, "South America"),
}


def test_places() -> None:
    lat, lon, names = zip(*PLACES.values(), strict=True)
    assert dict(zip(PLACES, continents_of(lat, lon).tolist(), strict=True)) == dict(zip(PLACES, names, strict=True))


def test_every_country_of_the_map_is_on_one() -> None:
    listed = [code for codes in COUNTRIES.values() for code in on_the_map(codes)]
    assert sorted(listed) == sorted(country_codes())
    assert len(CONTINENTS) == 7
    assert len(continents_of([], [])) == 0
