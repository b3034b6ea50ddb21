"""Errors as RFC 9457 problem documents, with the reasons that the gRPC errors carry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from grpc import StatusCode
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from geofix.errors import GeofixError, InternalError, InvalidInput, Reason

log = logging.getLogger("geofix.web")

MEDIA_TYPE = "application/problem+json"
RETRY_S = 1
"""What Retry-After says where trying again makes sense."""

_STATUS = {  # google.rpc.Code's own mapping to HTTP, but for FAILED_PRECONDITION: here it is the deployment that is at fault
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}
_CLOSER = {
    Reason.IMAGE_TOO_MANY_BYTES: 413,
    Reason.IMAGE_TOO_MANY_PIXELS: 413,
    Reason.BATCH_TOO_LARGE: 413,
    Reason.MESSAGE_TOO_LARGE: 413,
    Reason.IMAGE_FORMAT_UNSUPPORTED: 415,
}


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field("about:blank", description="always about:blank: `reason` says more than a link would")
    title: str = Field(description="the HTTP status in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what is wrong and what to do, for people")
    reason: str = Field(description="the name of the ErrorReason of the gRPC contract, for programs")
    metadata: dict[str, str] = Field(description="facts such as the limit that was exceeded")


def status_of(error: GeofixError) -> int:
    """The HTTP status of an error."""
    return _CLOSER.get(error.reason) or _STATUS.get(error.code, 500)


def problem_of(error: GeofixError) -> Problem:
    """The problem document of an error."""
    status = status_of(error)
    return Problem(
        title=_TITLES.get(status, "Error"),
        status=status,
        detail=error.message,
        reason=error.reason.value,
        metadata=error.metadata,
    )


def respond(error: GeofixError) -> Response:
    """The response for an error."""
    problem = problem_of(error)
    headers = {"Retry-After": str(RETRY_S)} if problem.status in (429, 503) else None
    return JSONResponse(problem.model_dump(), problem.status, headers, MEDIA_TYPE)


def documented(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {code: {"description": "a problem document", "content": content} for code in codes}


async def on_known(_: Request, error: Exception) -> Response:
    """Handler of our own errors."""
    assert isinstance(error, GeofixError)
    return respond(error)


async def on_invalid(_: Request, error: Exception) -> Response:
    """Handler of parameters that do not fit their description."""
    assert isinstance(error, RequestValidationError)
    return respond(option_error(error.errors()))


def option_error(found: Any) -> InvalidInput:
    """The error for what pydantic found wrong with options."""
    first: Mapping[str, Any] = found[0]
    name = str(first["loc"][-1] if first["loc"] else "options")
    return InvalidInput(f"{name}: {first['msg']}", Reason.OPTION_INVALID, {"option": name})


async def on_http(_: Request, error: Exception) -> Response:
    """Handler of what the router says: no such path, no such method."""
    assert isinstance(error, HTTPException)
    titled = _TITLES.get(error.status_code, "Error")
    body = Problem(title=titled, status=error.status_code, detail=error.detail, reason="", metadata={})
    return JSONResponse(body.model_dump(), error.status_code, error.headers, MEDIA_TYPE)


async def on_unknown(_: Request, error: Exception) -> Response:
    """Handler of defects: their text may hold anything, so the client gets a fixed one."""
    log.error("a request failed", exc_info=error)
    return respond(InternalError("internal error; the service's log says more"))


_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
