"""The server that the client would ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from geofix.cli.checks.finding import Finding, Place, good, note, wrong
from geofix.errors import GeofixError, Unavailable

if TYPE_CHECKING:
    from geofix.client import Client, ServiceInfo

MESSAGE_OVERHEAD = 64 * 1024
"""What a request carries beside its image."""


def served(client: Client, place: Place, named: bool) -> Iterator[Finding]:
    """Whether the server answers, with the bundle that lies here, and can take the images that it says it takes."""
    name = f"server {client.address}"
    try:
        info = client.info()
    except Unavailable as error:
        if named:
            yield wrong(name, error.message, "start it, or name another with --server or $GEOFIX_SERVER")
        else:
            yield from _nobody(name, client.address)
        return
    except GeofixError as error:
        yield wrong(name, error.message, "see its log")
        return
    yield _matches(name, info, place)
    yield limits(info)


def limits(info: ServiceInfo) -> Finding:
    """Whether an image of the size that the server takes fits into a message that it takes."""
    says = (
        f"images to {info.max_image_bytes:,} bytes, messages to {info.max_message_bytes:,}, batches to {info.max_batch}"
    )
    if info.max_message_bytes < info.max_image_bytes + MESSAGE_OVERHEAD:
        return wrong("limits", says, "raise GEOFIX_MAX_MESSAGE_BYTES above GEOFIX_MAX_IMAGE_BYTES on the server")
    return good("limits", says)


def _matches(name: str, info: ServiceInfo, place: Place) -> Finding:
    from geofix.bundle import Bundle

    says = f"{info.model_version}, gallery {info.gallery_version}"
    if not info.calibrated:
        return note(name, f"{says}; its answers carry no radius", "calibrate the bundle for this gallery")
    try:
        here = Bundle.describe(place.bundle).version
    except GeofixError:
        here = info.model_version
    if here != info.model_version:
        return note(name, f"{says}; the bundle here is {here}", "features are only good for the model that made them")
    return good(name, says)


def _nobody(name: str, address: str) -> Iterator[Finding]:
    from geofix.platform.errors import PlatformError
    from geofix.platform.ports import claim_port

    try:
        claim_port(int(address.rpartition(":")[2]))
    except PlatformError as error:
        yield wrong(name, "something listens there that is no geofix gateway", error.message)
    else:
        yield note(name, "nothing listens there", "geofix up starts the platform")
