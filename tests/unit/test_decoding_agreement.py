"""A JPEG that is decoded at a reduced scale means the same to the demo bundle as at its full size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from geofix.bundle import Bundle
from geofix.images import read_input
from geofix.local import LocalEngine
from image_factory import encoded

ROOT = Path(__file__).parents[2]


def test_embeddings_agree_to_a_cosine_of_0_998() -> None:
    engine = LocalEngine(Bundle.load(ROOT / "bundles" / "orbit"))
    scaled = engine.bundle.manifest.preprocessing
    full = scaled.model_copy(update={"jpeg": "full"})
    cosines = []
    for path in sorted((ROOT / "samples").glob("*.jpg")):
        with Image.open(path) as sample:
            large = sample.convert("RGB").resize((1632, 1224), Image.Resampling.BICUBIC)
        data = encoded(large, "JPEG", quality=90)
        near, exact = engine.heads(np.stack([engine.feature_of(read_input(data, way)) for way in (scaled, full)]))
        cosines.append(float(near.embedding @ exact.embedding))
    print(f"cosine of embeddings, scaled against full: median {np.median(cosines):.4f}, least {min(cosines):.4f}")
    assert len(cosines) >= 8
    assert np.median(cosines) >= 0.998
    assert min(cosines) >= 0.995
