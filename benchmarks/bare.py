"""The whole method in one bare process, without services: what `against_bare.py` compares the platform with.

It decodes, runs the backbone and the heads, searches with pymilvus in the Milvus and the gallery that the platform searches, and
decides, DBSCAN included: the same work, with nothing between its parts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import geofix.one_thread  # isort: skip  # noqa: F401  # before numpy, as in the services
import numpy as np
from pymilvus import MilvusClient

from geofix.bundle import BACKBONE, CLASSIFIER, EMBEDDER, Bundle
from geofix.decision import Decision, Strategy, decide, plan
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.layout import OUTPUT_FIELDS, partition_names
from geofix.gallery.store import Store
from geofix.geo import latlon_to_xyz
from geofix.images import ImageLimits, read_input
from geofix.local import TOP_CELLS
from geofix.onnx import OnnxSession
from geofix.placement import asked_providers
from geofix.posterior import CellScores, Neighbors
from loops import serve

PROVIDERS = asked_providers()
"""The backbone's: those that the platform's services are started with."""


class Bare:
    """Locates images.

    Args:
        bundle: what is served.
        client: of Milvus.
        collection: of the live gallery.
        partitions: that it has.
        threads: of a pass of the backbone; 0: all cores.
    """

    def __init__(self, bundle: Bundle, client: MilvusClient, collection: str, partitions: int, threads: int) -> None:
        self._bundle, self._client = bundle, client
        self._collection, self._partitions = collection, partitions
        self._backbone = OnnxSession(bundle.path(BACKBONE), PROVIDERS, threads)
        self._head = OnnxSession(bundle.path(CLASSIFIER), threads=1)
        self._embedder = OnnxSession(bundle.path(EMBEDDER), threads=1)

    def locate(self, image: bytes) -> Decision:
        """The estimate for an image file."""
        manifest = self._bundle.manifest
        prepared = read_input(image, manifest.preprocessing, ImageLimits())
        feature = self._backbone.run(prepared[None])["feature"]
        scored = self._head.run(feature)
        log_weight, domain = scored["log_weights"][0].astype(float), float(scored["domain_score"][0])
        scores = CellScores.best_of(log_weight, self._bundle.cells.xyz, domain, TOP_CELLS)
        embedding = self._embedder.run(feature)["embedding"][0]
        search = plan(manifest.decision, Strategy.POSTERIOR, scores)
        (hits,) = self._client.search(
            self._collection,
            data=[embedding],
            limit=search.k,
            filter=f"cell_id in {sorted(search.cells)}",
            partition_names=partition_names(search.cells, self._partitions),
            output_fields=list(OUTPUT_FIELDS),
            search_params={"metric_type": "IP"},
            consistency_level="Bounded",
            timeout=60,
        )
        rows = [hit["entity"] for hit in hits]
        places = latlon_to_xyz(np.array([row["lat"] for row in rows]), np.array([row["lon"] for row in rows]))
        cells = np.array([row["cell_id"] for row in rows], np.int32)
        neighbors = Neighbors(cells, places.reshape(-1, 3), np.array([hit["distance"] for hit in hits]))
        return decide(manifest.decision, Strategy.POSTERIOR, scores, neighbors)


def main() -> None:
    """Be the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--milvus", required=True, help="a server's URI, or a Milvus Lite directory of its own")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--megapixels", type=float, default=2.0)
    options = parser.parse_args()
    bundle = Bundle.load(options.bundle)
    with Store(options.milvus) as store:
        live = DirectAdmin(store, bundle).live()
        info = store.describe(live) if live else None
        if info is None:
            raise SystemExit(f"{options.milvus} has no live gallery")
        store.load(info.name)

        def make(threads: int) -> Callable[[bytes], object]:
            return Bare(bundle, store.client, info.name, info.partitions, threads).locate

        serve(make, options.images, options.megapixels)


if __name__ == "__main__":
    main()
