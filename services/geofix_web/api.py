"""The JSON API: /v1 and health. It reads requests, asks the gateway, and writes documents."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from geofix import __version__
from geofix.client import AsyncClient, LocateOptions, Location
from geofix.errors import InvalidInput, Reason
from geofix_web.answers import (
    BatchOut,
    InfoOut,
    LocationOut,
    MeverOut,
    State,
    batch_item,
    info_out,
    location_out,
    mever_out,
)
from geofix_web.problems import documented, option_error
from geofix_web.thumbnails import Thumbnails
from geofix_web.uploads import Uploads


class StrategyIn(StrEnum):
    """How an estimate is made."""

    POSTERIOR = "posterior"
    SWC = "swc"
    CLASSIFICATION = "classification"
    RETRIEVAL = "retrieval"


class FormatIn(StrEnum):
    """Field names of the answer."""

    GEOFIX = "geofix"
    MEVER = "mever"


Probability = Annotated[float, Field(ge=0.5, le=0.95)]


class Options(BaseModel):
    """How to answer. In a form, fields of these names win over the query."""

    model_config = ConfigDict(extra="forbid")

    strategy: StrategyIn | None = Field(None, description="default: posterior, the only calibrated one")
    probabilities: list[Probability] = Field(
        [], max_length=16, description="whose radii are wanted; default: 0.5 and 0.9"
    )
    max_neighbors: int | None = Field(None, ge=0, le=1000, description="default: 20")
    max_cells: int | None = Field(None, ge=0, le=64, description="default: 5")
    max_alternatives: int | None = Field(None, ge=0, le=100, description="default: 5")
    allow_degraded: bool = Field(
        False, description="take an answer without a search, and without radii, where retrieval does not answer"
    )
    bypass_cache: bool = Field(False, description="compute the answer even where it is cached, and do not cache it")
    outlines: bool = Field(False, description="with the outlines of the cells, as GeoJSON")
    format: FormatIn = Field(
        FormatIn.GEOFIX, description="mever: the field names of the MeVer location estimation service"
    )

    def with_fields(self, fields: dict[str, list[str]]) -> Options:
        """These options, with those of a form in their place.

        Raises:
            InvalidInput: one is none, or out of its range.
        """
        given: dict[str, Any] = self.model_dump()
        for name, values in fields.items():
            if name in _SWITCHES and values[-1] not in ("true", "false"):
                raise InvalidInput(f"{name}: say true or false", Reason.OPTION_INVALID, {"option": name})
            given[name] = values if name == "probabilities" else values[-1]
        try:
            return Options.model_validate(given)
        except ValidationError as error:
            raise option_error(error.errors()) from error

    def for_gateway(self) -> LocateOptions:
        """As the client takes them."""
        return LocateOptions(
            strategy=self.strategy.value if self.strategy else None,
            probabilities=self.probabilities or None,
            max_alternatives=self.max_alternatives,
            max_cells=self.max_cells,
            max_neighbors=self.max_neighbors,
            bypass_cache=self.bypass_cache,
            allow_degraded=self.allow_degraded,
        )


_SWITCHES = tuple(name for name, kind in Options.model_fields.items() if kind.annotation is bool)
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _form(image: dict[str, Any]) -> dict[str, Any]:
    """A form with images and, if wanted, options."""
    schema = Options.model_json_schema(ref_template="#/components/schemas/{model}")
    # A field of a form is there or not; it cannot be null.
    options = {name: kind["anyOf"][0] if "anyOf" in kind else kind for name, kind in schema["properties"].items()}
    return {
        "type": "object",
        "required": ["image"],
        "properties": {"image": image, **options},
        "additionalProperties": False,
    }


_ONE_FORM = _form(_BINARY["schema"])
_MANY_FORM = _form({"type": "array", "minItems": 1, "items": _BINARY["schema"]})
_ONE_BODY = {
    "requestBody": {
        "required": True,
        "description": "a JPEG, PNG or WebP file: as the body itself, or as the field `image` of a form",
        "content": {
            "image/jpeg": _BINARY,
            "image/png": _BINARY,
            "image/webp": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {"schema": _ONE_FORM},
        },
    }
}
_MANY_BODY = {
    "requestBody": {
        "required": True,
        "description": "JPEG, PNG or WebP files as fields `image` of a form",
        "content": {"multipart/form-data": {"schema": _MANY_FORM}},
    }
}


_FAILURES = documented(400, 413, 415, 429, 500, 503, 504)


def make_api(
    client: AsyncClient, uploads: Uploads, thumbnails: Thumbnails, max_image_bytes: int, max_batch: int
) -> APIRouter:
    """The routes, for a gateway."""
    api = APIRouter()

    @api.post(
        "/v1/locate",
        response_model=None,
        tags=["locate"],
        openapi_extra=_ONE_BODY,
        responses={200: {"model": LocationOut | MeverOut}, **_FAILURES},
    )
    async def locate(request: Request, query: Annotated[Options, Query()]) -> Response:
        """Where one image was taken, how sure that is, and the evidence. The image is not kept."""
        async with uploads.one(request) as upload:
            options = query.with_fields(upload.fields)
            found = await client.locate(upload.images[0], options.for_gateway())
        if options.format is FormatIn.MEVER:
            return _json(mever_out(found))
        await thumbnails.look(found)
        return _json(location_out(found, thumbnails.path, options.outlines))

    @api.post(
        "/v1/batch",
        response_model=None,
        tags=["locate"],
        openapi_extra=_MANY_BODY,
        responses={200: {"model": BatchOut}, **_FAILURES},
    )
    async def batch(request: Request, query: Annotated[Options, Query()]) -> Response:
        """The same for several images, each with its answer or its problem, all on one gallery version."""
        async with uploads.many(request) as upload:
            options = query.with_fields(upload.fields)
            results = await client.locate_batch(upload.images, options.for_gateway())
        await asyncio.gather(*(thumbnails.look(result) for result in results if isinstance(result, Location)))
        return _json(BatchOut(results=[batch_item(result, thumbnails.path, options.outlines) for result in results]))

    @api.get("/v1/info", tags=["deployment"], responses=documented(500, 503, 504))
    async def info() -> InfoOut:
        """What this deployment serves: versions and limits."""
        return info_out(await client.info(), __version__, max_image_bytes, max_batch)

    @api.get("/healthz", tags=["deployment"])
    async def healthz() -> State:
        """Whether this service is alive."""
        return State(status="ok")

    @api.get("/readyz", tags=["deployment"], responses=documented(500, 503, 504))
    async def readyz() -> State:
        """Whether it can answer: the gateway, and all behind it, answered a moment ago."""
        await client.info(timeout_s=2)
        return State(status="ready")

    return api


def _json(document: BaseModel) -> Response:
    return Response(document.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
