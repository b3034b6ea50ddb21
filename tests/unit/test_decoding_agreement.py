"""A JPEG that is decoded at a reduced scale means the same to the demo bundle as at its full size."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from geofix.bundle import Bundle
from geofix.images import read_input
from geofix.ingest.items import Item
from geofix.ingest.stages import Loaded, Prepared, Wanted, prepare_image
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


@pytest.mark.parametrize("jpeg", ["scaled", "full"])
def test_a_gallery_has_the_pixels_of_a_query_of_the_same_file(jpeg: Literal["scaled", "full"]) -> None:
    way = Bundle.load(ROOT / "bundles" / "orbit").manifest.preprocessing.model_copy(update={"jpeg": jpeg})
    data = encoded(Image.effect_noise((1632, 1224), 60).convert("RGB"), "JPEG", quality=90)
    for wanted in (Wanted(way), Wanted(way, thumbnail=True, phash=True)):
        prepared = prepare_image(Loaded(Item("a.jpg", (0.0, 0.0)), "a", (0.0, 0.0), data), wanted)
        assert isinstance(prepared, Prepared)
        assert prepared.pixels is not None
        np.testing.assert_array_equal(prepared.pixels, read_input(data, way))
