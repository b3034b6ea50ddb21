"""Known-good answers, and whether another answer of the same image is the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driver import WrongAnswer
from geofix.geo import haversine_km
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource

SAME_KM = 0.1
"""Two passes of a network over batches of different sizes differ in the last bits, and so may the estimate by metres."""


@dataclass(frozen=True)
class Question:
    """An image and its right answer."""

    image: bytes
    right: pb.LocateResponse

    def request(self, *, cached: bool) -> pb.LocateRequest:
        """The question, to be answered from the cache or not."""
        return pb.LocateRequest(source=ImageSource(image=self.image), options=pb.LocateOptions(bypass_cache=not cached))

    def check(self, answer: pb.LocateResponse) -> None:
        """Compare.

        Raises:
            WrongAnswer: the answer is another one, in which respect.
        """
        a, b = answer, self.right
        apart = float(
            haversine_km(a.location.latitude, a.location.longitude, b.location.latitude, b.location.longitude)
        )
        facts = {
            "place": apart > SAME_KM,
            "method": a.method != b.method,
            "localizable": a.localizable != b.localizable,
            "radii": len(a.radii) != len(b.radii)
            or any(abs(x.radius_m - y.radius_m) > 0.01 * y.radius_m for x, y in zip(a.radii, b.radii, strict=True)),
            "neighbours": {n.neighbor.id for n in a.neighbors} != {n.neighbor.id for n in b.neighbors},
            "model": a.model_version != b.model_version,
            "gallery": a.gallery_version != b.gallery_version,
        }
        wrong = [name for name, differs in facts.items() if differs]
        if wrong:
            raise WrongAnswer(f"in {', '.join(wrong)}")


async def ask(stub: rpc.GeolocationServiceAsyncStub, images: Sequence[bytes], timeout_s: float = 30) -> list[Question]:
    """Each image with the answer that the platform gives while nothing disturbs it."""
    options = pb.LocateOptions(bypass_cache=True)
    return [
        Question(
            image,
            await stub.Locate(
                pb.LocateRequest(source=ImageSource(image=image), options=options),
                timeout=timeout_s,
                wait_for_ready=True,
            ),
        )
        for image in images
    ]
