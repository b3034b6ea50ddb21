"""One exception tree for services, command line and client.

    GeofixError
    ├── InvalidInput          the request or file cannot be answered; do not retry it as it is   INVALID_ARGUMENT
    ├── MismatchError         two parts do not belong together (bundle, gallery, provider)       FAILED_PRECONDITION
    ├── NotFound              a thing that was named does not exist                               NOT_FOUND
    ├── Overloaded            a queue is full; retry later                                        RESOURCE_EXHAUSTED
    ├── Unavailable           a service or store cannot be reached, and which; retry              UNAVAILABLE
    ├── DeadlineExceeded      no answer in time                                                   DEADLINE_EXCEEDED
    ├── AccessDenied          the token or certificate is missing, wrong or not enough            UNAUTHENTICATED
    ├── PermissionDenied      the token is good, but not for this                                 PERMISSION_DENIED
    ├── InternalError         a bug; the text says nothing of the inside                          INTERNAL
    └── ConfigurationError    a setting is missing or wrong; the process exits 2                  (never on the wire)

`Reason` names are those of the enum `ErrorReason` in proto/geofix/v1/error_reason.proto; they travel in
`google.rpc.ErrorInfo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, auto

import grpc

DOMAIN = "geofix.v1"
"""The domain of every `google.rpc.ErrorInfo`."""


class Reason(StrEnum):
    """Why a request failed; the name travels in ErrorInfo.reason."""

    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name

    IMAGE_MISSING = auto()
    IMAGE_EMPTY = auto()
    IMAGE_UNREADABLE = auto()
    IMAGE_FORMAT_UNSUPPORTED = auto()
    IMAGE_NO_PIXELS = auto()
    IMAGE_TOO_MANY_BYTES = auto()
    IMAGE_TOO_MANY_PIXELS = auto()
    FEATURE_INVALID = auto()
    EMBEDDING_INVALID = auto()
    OPTION_INVALID = auto()
    BATCH_EMPTY = auto()
    BATCH_TOO_LARGE = auto()
    MESSAGE_TOO_LARGE = auto()
    GALLERY_NOT_FOUND = auto()
    GALLERY_MISMATCH = auto()
    GALLERY_INVALID = auto()
    BUNDLE_INVALID = auto()
    MODEL_MISMATCH = auto()
    PROVIDER_MISMATCH = auto()
    QUEUE_FULL = auto()
    SERVICE_UNAVAILABLE = auto()
    GALLERY_UNAVAILABLE = auto()
    SHUTTING_DOWN = auto()
    DEADLINE_EXCEEDED = auto()
    INTERNAL = auto()
    GALLERY_UNFINISHED = auto()
    GALLERY_IN_USE = auto()
    GALLERY_EXISTS = auto()
    STORAGE_FULL = auto()
    REQUEST_UNREADABLE = auto()
    SEARCH_AREA_EMPTY = auto()
    TOKEN_MISSING = auto()
    TOKEN_INVALID = auto()
    ROLE_MISSING = auto()
    QUOTA_EXCEEDED = auto()
    SWITCHED_OFF = auto()
    AREA_DENIED = auto()


class GeofixError(Exception):
    """Base of all: a message for people, a reason for programs, and metadata (limits, names, versions).

    Attributes:
        code: the gRPC status code that it travels as.
        reason: see `Reason`.
        metadata: facts a program can use, such as the limit that was exceeded.
    """

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL
    default_reason: Reason = Reason.INTERNAL

    def __init__(self, message: str, reason: Reason | None = None, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})


class InvalidInput(GeofixError):
    """The request or the file cannot be answered as it is."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = Reason.OPTION_INVALID


class MismatchError(GeofixError):
    """Two parts do not belong together; the message names both."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = Reason.BUNDLE_INVALID


class NotFound(GeofixError):
    """A thing that was named does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    default_reason = Reason.GALLERY_NOT_FOUND


class Overloaded(GeofixError):
    """A bounded queue is full; retry after a pause.

    Attributes:
        retry_after_s: the pause, seconds; None where nothing is known of it.
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = Reason.QUEUE_FULL

    def __init__(
        self,
        message: str,
        reason: Reason | None = None,
        metadata: Mapping[str, str] | None = None,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, reason, metadata)
        self.retry_after_s = retry_after_s


class Unavailable(GeofixError):
    """A service or store cannot be reached; the message names it."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = Reason.SERVICE_UNAVAILABLE


class DeadlineExceeded(GeofixError):
    """No answer within the deadline."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = Reason.DEADLINE_EXCEEDED


class AccessDenied(GeofixError):
    """The caller was refused: its token or certificate is missing, wrong, or not enough."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = Reason.TOKEN_INVALID


class PermissionDenied(AccessDenied):
    """The caller is known, and has not the role that the call needs."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = Reason.ROLE_MISSING


class InternalError(GeofixError):
    """Something broke inside a service; its log says what."""


class ConfigurationError(GeofixError):
    """A setting is missing or wrong; processes exit 2 on it."""


WIRE_ERRORS: tuple[type[GeofixError], ...] = (
    InvalidInput,
    MismatchError,
    NotFound,
    Overloaded,
    Unavailable,
    DeadlineExceeded,
    AccessDenied,
    PermissionDenied,
    InternalError,
)
"""The classes that travel, one a status code."""
