"""What every call of a geofix service passes through: readiness, the deadline, and the mapping of exceptions to statuses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import grpc
from google.protobuf.message import DecodeError

from geofix.access import CALLER, Access, Caller
from geofix.errors import DeadlineExceeded, GeofixError, InternalError, InvalidInput, Reason
from geofix.telemetry.calls import ObservedCall
from geofix.wire import STATUS_DETAILS, error_to_status

log = logging.getLogger("geofix.rpc")

Handler = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]


@dataclass
class _Entry:
    """What the audit log says of a call."""

    caller: Caller | None = None
    code: str = grpc.StatusCode.OK.name


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the unary methods of package geofix.v1.

    Args:
        not_ready: the error to answer with while the service is not ready, or None once it was.
        default_deadline_s: deadline of calls that bring none.
        max_deadline_s: longest deadline honoured.
        access: who may call; None: everyone.
    """

    def __init__(
        self,
        not_ready: Callable[[], GeofixError | None],
        default_deadline_s: float,
        max_deadline_s: float,
        access: Access | None = None,
    ) -> None:
        self._not_ready = not_ready
        self._access = access
        self._default_s = default_deadline_s
        self._max_s = max_deadline_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler that the rest of the chain found."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith("/geofix.v1.") or handler.unary_unary is None:
            return handler  # health, reflection, or a method that does not exist
        return grpc.unary_unary_rpc_method_handler(
            self._wrap(method, cast(Handler, handler.unary_unary), handler.request_deserializer),
            None,  # gRPC would answer bytes that are no such message with INTERNAL, as if the defect were ours
            handler.response_serializer,
        )

    def _wrap(self, method: str, inner: Handler, read: Callable[[bytes], Any] | None) -> Handler:
        async def call(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with ObservedCall(method, context) as observed, self._audited(method) as entry:
                try:
                    if self._access is not None:
                        entry.caller = self._access.caller(context.invocation_metadata() or ())
                        CALLER.set(entry.caller)
                    pending = self._not_ready()
                    if pending is not None:
                        raise pending
                    async with asyncio.timeout(self._seconds(context)):
                        return await inner(read(data) if read else data, context)
                except TimeoutError:
                    error: GeofixError = DeadlineExceeded(f"{method} did not finish within its deadline")
                except DecodeError:
                    error = InvalidInput(
                        f"the request is no message that {method} takes: send it by geofix's protos",
                        Reason.REQUEST_UNREADABLE,
                    )
                except GeofixError as known:
                    error = known
                except grpc.aio.AbortError:
                    raise
                except Exception:
                    # The text of an unknown exception may hold anything (a path, a secret); the client gets a fixed one.
                    log.exception("%s failed", method)
                    error = InternalError("internal error; the service's log says more")
                observed.failed(error)
                entry.code = error.code.name
                return await _abort(context, error)

        return call

    @contextmanager
    def _audited(self, method: str) -> Iterator[_Entry]:
        entry, begun = _Entry(), time.perf_counter()
        try:
            yield entry
        except asyncio.CancelledError:
            entry.code = grpc.StatusCode.CANCELLED.name
            raise
        finally:
            if self._access is not None:
                self._access.note(entry.caller, method, entry.code, time.perf_counter() - begun)

    def _seconds(self, context: grpc.aio.ServicerContext[Any, Any]) -> float:
        remaining = context.time_remaining()
        return self._default_s if remaining is None else min(remaining, self._max_s)


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: GeofixError) -> NoReturn:
    details = error_to_status(error).SerializeToString()
    await context.abort(error.code, error.message, ((STATUS_DETAILS, details),))
    raise AssertionError("abort always raises")
