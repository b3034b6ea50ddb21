"""Whether a child is ready: gRPC health for services, a GET for what speaks HTTP, PING for Valkey."""

from __future__ import annotations

import contextlib
import http
import http.client
import socket

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from geofix.platform.child import Spec
from geofix.tls import TlsFiles, peer_credentials

_TIMEOUT_S = 0.5


class Probe:
    """Asks one child; keeps its connection between questions."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._channel: grpc.Channel | None = None

    def ready(self) -> bool:
        """Whether it answers and says that it is ready."""
        if self._spec.http_path:
            return self._get()
        return self._grpc_ready() if self._spec.health_name else self._ping()

    def refusal(self) -> str | None:
        """Why it will never be ready, where it says so itself (its bundle or its execution provider is wrong)."""
        if self._channel is None or not self._spec.info_method:
            return None
        method = f"/{self._spec.health_name}/{self._spec.info_method}"
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
        try:
            call(b"", timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            return error.details() if error.code() is grpc.StatusCode.FAILED_PRECONDITION else None
        return None

    def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _grpc_ready(self) -> bool:
        if self._channel is None:
            options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
            peer = peer_credentials(TlsFiles.from_environment(self._spec.environment))
            self._channel = (
                grpc.secure_channel(self._spec.address, peer.get(), options=options)
                if peer is not None
                else grpc.insecure_channel(self._spec.address, options=options)
            )
        request = health_pb2.HealthCheckRequest(service=self._spec.health_name)
        try:
            answer = health_pb2_grpc.HealthStub(self._channel).Check(request, timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _get(self) -> bool:
        connection = http.client.HTTPConnection(self._spec.address, timeout=_TIMEOUT_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", self._spec.http_path)
            return connection.getresponse().status == http.HTTPStatus.OK
        return False

    def _ping(self) -> bool:
        host, _, port = self._spec.address.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), _TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False
