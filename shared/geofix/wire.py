"""Exceptions on the wire: `GeofixError` to a gRPC status with `google.rpc.ErrorInfo` and `RetryInfo`, and back."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from geofix.errors import (
    DOMAIN,
    WIRE_ERRORS,
    AccessDenied,
    DeadlineExceeded,
    GeofixError,
    InternalError,
    InvalidInput,
    Overloaded,
    Reason,
    Unavailable,
)

STATUS_DETAILS = "grpc-status-details-bin"
"""Trailing metadata key of the serialised `google.rpc.Status`."""

_BY_CODE = {error.code: error for error in WIRE_ERRORS}


def error_to_status(error: GeofixError) -> Status:
    """The status of an error: its code, its message, an ErrorInfo and, where the pause before a retry is known, a RetryInfo."""
    details = [_packed(ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=error.metadata))]
    if isinstance(error, Overloaded) and error.retry_after_s is not None:
        pause = Duration()
        pause.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(_packed(RetryInfo(retry_delay=pause)))
    return Status(code=error.code.value[0], message=error.message, details=details)


def error_from_status(status: Status) -> GeofixError | None:
    """The error that a status carries, or None where no ErrorInfo of ours is in it."""
    info, retry = ErrorInfo(), RetryInfo()
    if not any(detail.Unpack(info) and info.domain == DOMAIN for detail in status.details):
        return None
    kind = next((e for e in WIRE_ERRORS if e.code.value[0] == status.code), InternalError)
    reason = Reason(info.reason) if info.reason in Reason.__members__ else kind.default_reason
    error = kind(status.message, reason, dict(info.metadata))
    if isinstance(error, Overloaded) and any(detail.Unpack(retry) for detail in status.details):
        error.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return error


def _packed(message: Message) -> Any:
    detail = Any()
    detail.Pack(message)
    return detail


def error_from_rpc(error: grpc.RpcError, service: str) -> GeofixError:
    """The error behind a failed call of `service` (a name with its address, for the message)."""
    status = rpc_status.from_call(error)
    known = error_from_status(status) if status is not None else None
    if known is not None:
        return known
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(f"{service} cannot be reached", Reason.SERVICE_UNAVAILABLE, {"service": service})
    if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return DeadlineExceeded(f"{service} did not answer in time", metadata={"service": service})
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        # gRPC itself refuses such a message before any code of ours sees it, so there is no ErrorInfo to read.
        return InvalidInput(f"the message is over {service}'s size limit: {details}", Reason.MESSAGE_TOO_LARGE)
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return AccessDenied(f"{service} refused the caller: {details or code.name}", metadata={"service": service})
    kind = _BY_CODE.get(code, InternalError)
    return kind(f"{service}: {details or code.name}", metadata={"service": service})
