"""Bodies of requests: read within limits that are checked while they arrive, in memory, never on a disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from geofix.errors import DeadlineExceeded, InvalidInput, Overloaded, Reason

FORM_BYTES = 64 * 1024
"""What a multipart body may have beside its images: boundaries, names, options."""
_MAX_FIELDS, _MAX_FIELD_BYTES = 64, 4096


@dataclass(frozen=True)
class Upload:
    """The images of a body, in order, and the form fields beside them."""

    images: tuple[bytes, ...]
    fields: dict[str, list[str]] = field(default_factory=dict)


class Uploads:
    """Reads bodies for as many requests at a time as memory was planned for.

    Args:
        max_image_bytes: of one image.
        max_body_bytes: of a batch.
        max_batch: images of a batch.
        max_at_once: requests.
        timeout_s: for a client to send its body.
    """

    def __init__(
        self, max_image_bytes: int, max_body_bytes: int, max_batch: int, max_at_once: int, timeout_s: float
    ) -> None:
        self._max_image = max_image_bytes
        self._max_body = max_body_bytes
        self._max_batch = max_batch
        self._max_at_once = max_at_once
        self._timeout_s = timeout_s
        self._now = 0

    @contextlib.asynccontextmanager
    async def one(self, request: Request) -> AsyncIterator[Upload]:
        """The body of a request for one image: the image itself, or a form with the field `image`.

        Raises:
            InvalidInput: too large, no image, or more than one.
            Overloaded: too many requests hold images.
            DeadlineExceeded: the body did not come in time.
        """
        with self._seat():
            upload = await self._read(request, self._max_image, 1)
            if len(upload.images) != 1:
                raise InvalidInput(
                    f"{len(upload.images)} images were sent; send one, or ask /v1/batch", Reason.IMAGE_MISSING
                )
            yield upload

    @contextlib.asynccontextmanager
    async def many(self, request: Request) -> AsyncIterator[Upload]:
        """The body of a request for several images: a form with fields `image`.

        Raises:
            InvalidInput: too large, or not a form.
            Overloaded: too many requests hold images.
            DeadlineExceeded: the body did not come in time.
        """
        with self._seat():
            if not _is_form(request):
                raise InvalidInput("send a batch as multipart/form-data with fields `image`", Reason.IMAGE_MISSING)
            yield await self._read(request, self._max_body, self._max_batch)

    @contextlib.contextmanager
    def _seat(self) -> Iterator[None]:
        if self._now >= self._max_at_once:
            raise Overloaded(
                "too many images are being read; try again in a second", metadata={"limit": str(self._max_at_once)}
            )
        self._now += 1
        try:
            yield
        finally:
            self._now -= 1

    async def _read(self, request: Request, limit: int, most: int) -> Upload:
        form = _is_form(request)
        kind = Reason.IMAGE_TOO_MANY_BYTES if most == 1 else Reason.MESSAGE_TOO_LARGE
        stream = _limited(request, limit + FORM_BYTES if form else limit, limit, kind)
        try:
            async with asyncio.timeout(self._timeout_s):
                upload = await _form(request, stream, most) if form else Upload((await _all(stream),))
        except TimeoutError as error:
            raise DeadlineExceeded(f"the body did not arrive within {self._timeout_s:g} s") from error
        except ClientDisconnect as error:
            raise InvalidInput("the client went away while it sent its body", Reason.IMAGE_MISSING) from error
        for image in upload.images:
            if len(image) > self._max_image and most == 1:  # of a batch, the gateway says it for each image
                raise _too_large(limit, len(image), kind)
        return upload


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 62


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


async def _limited(request: Request, body_limit: int, told: int, reason: Reason) -> AsyncGenerator[bytes, None]:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > body_limit:
        raise _too_large(told, int(announced), reason)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > body_limit:
            raise _too_large(told, None, reason)
        yield chunk


def _too_large(limit: int, sent: int | None, reason: Reason) -> InvalidInput:
    what = "the image" if reason is Reason.IMAGE_TOO_MANY_BYTES else "the batch"
    size = f"{what} has {sent:,} bytes" if sent is not None else f"{what} is too large"
    hint = "send a smaller or more compressed one" if what == "the image" else "send several batches"
    metadata = {"limit_bytes": str(limit)} | ({} if sent is None else {"bytes": str(sent)})
    return InvalidInput(f"{size}; the limit is {limit:,}: {hint}", reason, metadata)


async def _all(stream: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def _form(request: Request, stream: AsyncGenerator[bytes, None], most: int) -> Upload:
    # One image more than allowed is read, so that the error can say which limit it was.
    parser = _InMemory(
        request.headers, stream, max_files=most + 1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        detail = getattr(error, "message", "it names no boundary")
        if "Too many files" in detail:
            raise InvalidInput(
                f"the form has more than {most} images: send several batches",
                Reason.BATCH_TOO_LARGE,
                {"limit": str(most)},
            ) from error
        raise InvalidInput(f"the multipart body cannot be read: {detail}", Reason.IMAGE_MISSING) from error
    images: list[bytes] = []
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            images.append(await value.read())
        elif name == "image":
            images.append(value.encode())
        else:
            fields.setdefault(name, []).append(value)
    await form.close()
    return Upload(tuple(images), fields)
