"""From a source of a request to what the networks take: written once for the services that run networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import Manifest
from geofix.errors import GeofixError, InvalidInput, Reason
from geofix.images import ImageLimits, read_input
from geofix.v1 import types_pb2
from geofix.vectors import unpack_vector

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SourceItem:
    """A source with its position in the call, or an input that needs no preparation."""

    index: int
    source: types_pb2.ImageSource | Array


def is_feature(item: SourceItem) -> bool:
    """Whether `network_input` only has to look at it, since there is nothing to decode."""
    return not (isinstance(item.source, types_pb2.ImageSource) and item.source.HasField("image"))


def network_input(item: SourceItem, manifest: Manifest, limits: ImageLimits) -> Array:
    """The backbone's input, shape (3, height, width), of an image; the feature, shape (feature_dim,), of a feature.

    Raises:
        InvalidInput: it is neither, or not a good one; `index` in the metadata is the item's position.
    """
    if not isinstance(item.source, types_pb2.ImageSource):
        return item.source
    try:
        match item.source.WhichOneof("source"):
            case "image":
                manifest.check_takes_images()
                return read_input(item.source.image, manifest.preprocessing, limits)
            case "feature":
                return unpack_vector(item.source.feature, manifest.feature_dim, Reason.FEATURE_INVALID)
            case _:
                raise InvalidInput("neither an image nor a feature was sent", Reason.IMAGE_MISSING)
    except GeofixError as error:
        error.metadata["index"] = str(item.index)
        raise
