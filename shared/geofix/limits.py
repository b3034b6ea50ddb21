"""The limits that services check before any work, and publish in their Info calls."""

from __future__ import annotations

from geofix.errors import InvalidInput, Reason
from geofix.settings import ServiceSettings
from geofix.v1 import types_pb2


def check_batch(items: int, max_batch: int) -> None:
    """Refuse an empty batch, and one over the limit as a whole.

    Raises:
        InvalidInput: BATCH_EMPTY or BATCH_TOO_LARGE, with the limit in the metadata.
    """
    if items == 0:
        raise InvalidInput("the batch has no items", Reason.BATCH_EMPTY)
    if items > max_batch:
        raise InvalidInput(
            f"the batch has {items} items; the limit is {max_batch}: send several batches",
            Reason.BATCH_TOO_LARGE,
            {"limit": str(max_batch), "items": str(items)},
        )


def limits_message(settings: ServiceSettings) -> types_pb2.Limits:
    """The limits in force, as the Info calls publish them."""
    return types_pb2.Limits(
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_batch=settings.max_batch,
        max_message_bytes=settings.max_message_bytes,
        max_queue=settings.max_queue,
        default_deadline_ms=round(settings.default_deadline_s * 1000),
        max_deadline_ms=round(settings.max_deadline_s * 1000),
    )
