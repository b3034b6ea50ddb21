"""Which continent a place is on, as GeoNames (https://www.geonames.org, CC BY 4.0) counts countries to continents.

Russia is counted to Europe, Turkey to Asia, Central America and the Caribbean to North America.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geofix.countries import Country, country_codes
from geofix.geo import latlon_to_xyz

COUNTRIES = {
    # Europe first: what other continents have of France and the Netherlands has codes of its own, which then decide.
    "Europe": (
        "AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK "
        "MT NL NO PL PT RO RS RU SE SI SJ SK SM UA VA XK"
    ),
    "Africa": (
        "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE "
        "NG RE RW SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW"
    ),
    "Antarctica": "AQ BV GS HM TF",
    "Asia": (
        "AE AF AM AZ BD BH BN BT CC CN GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH "
        "PK PS QA SA SG SY TH TJ TM TR TW UZ VN YE"
    ),
    "North America": (
        "AG AI AN AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC "
        "TT US VC VG VI"
    ),
    "Oceania": "AS AU CK CX FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TL TO TV UM VU WF WS",
    "South America": "AR BO BR CL CO EC FK GF GY PE PY SR UY VE",
}
"""ISO 3166-1 alpha-2 codes."""
CONTINENTS = tuple(COUNTRIES)


def continents_of(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.str_]:
    """The continent of each place, degrees, shape (n,); off the map's countries, that of the nearest one."""
    lats, lons = np.asarray(lat, float).ravel(), np.asarray(lon, float).ravel()
    found = np.full(len(lats), -1)
    for number, codes in enumerate(COUNTRIES.values()):
        for code in on_the_map(codes):
            found[Country(code).contains(lats, lons)] = number
    rest = np.flatnonzero(found < 0)
    xyz, nearest = latlon_to_xyz(lats[rest], lons[rest]), np.full(len(rest), np.inf)
    for number, codes in enumerate(COUNTRIES.values()):
        for code in on_the_map(codes) if len(rest) else ():
            away = Country(code).distance_km(xyz)
            found[rest[away < nearest]] = number
            nearest = np.minimum(nearest, away)
    names: NDArray[np.str_] = np.array(CONTINENTS)[found]
    return names


def on_the_map(codes: str) -> list[str]:
    """Those of some codes, apart by spaces, that the map has an outline for."""
    return [code for code in codes.split() if code in country_codes()]
