"""What the probability density over the Earth is worth, over images whose place is known.

python benchmarks/density.py --images DIR --truth CSV [--bundle bundles/orbit] [--limit 200]

Prints the mean log density (per steradian) at the truths for several shares of the classifier and spreads around neighbours, and
how many truths lie in the most probable cells that hold 50, 80, 90 and 95 %. About half a minute for 200 images.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import s2cell

from geofix import density
from geofix.bundle import Bundle
from geofix.decision import Strategy, decide, plan
from geofix.geo import EARTH_RADIUS_KM, FloatArray, latlon_to_xyz, xyz_to_latlon
from geofix.local import LocalEngine
from geofix.mvmf import log_vmf
from geofix.posterior import CellScores
from geofix.truth import read_truth

LEVELS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Case:
    """An image's truth (unit vector), cells, their kappas, neighbours' places and posterior weights."""

    truth: FloatArray
    cells: CellScores
    kappa: FloatArray
    xyz: FloatArray
    weights: FloatArray

    def log_density(self, share: float, spread_km: float) -> float:
        """Log density at the truth, per steradian."""
        mixture = np.exp(self.cells.log_weight)
        parts = np.exp(log_vmf(self.truth[None], self.cells.xyz, self.kappa)[0]) @ (mixture / mixture.sum())
        around = np.full(len(self.weights), (EARTH_RADIUS_KM / spread_km) ** 2)
        near = np.exp(log_vmf(self.truth[None], self.xyz, around)[0]) @ self.weights
        mixed = (1 - density.ANYWHERE) * (share * parts + (1 - share) * near)
        return float(np.log(mixed + density.ANYWHERE / (4 * np.pi)))

    def level(self, count: int) -> float:
        """Probability of the cells that are as probable as the truth's or more."""
        lat, lon = xyz_to_latlon(self.truth)
        leaf, held = s2cell.lat_lon_to_cell_id(float(lat), float(lon)), 0.0
        for cell in density.density_cells(self.cells, self.kappa, self.xyz, self.weights, count):
            held += cell.probability
            s2_id = s2cell.token_to_cell_id(cell.s2_token)
            if abs(leaf - s2_id) < (s2_id & -s2_id):
                return held
        return 1.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/orbit"))
    parser.add_argument("--limit", type=int, default=200)
    arguments = parser.parse_args()
    engine = LocalEngine(Bundle.load(arguments.bundle))
    places = list(read_truth(arguments.truth).items())
    step = max(1, len(places) // arguments.limit)
    cases = [_case(engine, arguments.images / name, place) for name, place in places[::step]]
    print(f"{len(cases)} images; mean log density at the truths by the classifier's share")
    shares = (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)
    print("spread, km  " + "".join(f"{share:8.1f}" for share in shares))
    for spread in (60.0, 100.0, 150.0, 250.0):
        means = [np.mean([case.log_density(share, spread) for case in cases]) for share in shares]
        print(f"{spread:10.0f}  " + "".join(f"{mean:8.2f}" for mean in means))
    for count in (16, 64, 256):
        levels = np.array([case.level(count) for case in cases])
        held = ", ".join(f"{100 * float((levels <= level).mean()):.0f} % in {100 * level:.0f} %" for level in LEVELS)
        print(f"{count} cells: {held}")


def _case(engine: LocalEngine, path: Path, place: tuple[float, float]) -> Case:
    head = engine.heads(engine.feature(path.read_bytes())[None])[0]
    rule = engine.bundle.manifest.decision
    search = plan(rule, Strategy.POSTERIOR, head.cells)
    _, neighbors = engine.gallery.search(head.embedding, search.cells, search.k)
    decision = decide(rule, Strategy.POSTERIOR, head.cells, neighbors)
    kappa = engine.bundle.cells.kappa[head.cells.cell_id]
    return Case(latlon_to_xyz(*place), head.cells, kappa, neighbors.xyz, decision.weights)


if __name__ == "__main__":
    main()
