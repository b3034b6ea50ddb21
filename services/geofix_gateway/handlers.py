"""The servicer's methods on a server, with Locate answering in bytes.

A cached answer is serialised already. The generated registration would have it parsed, only to serialise it again.
"""

from __future__ import annotations

from typing import Any

import grpc

from geofix.v1 import geolocation_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["GeolocationService"]


def add_handlers(servicer: Any, server: grpc.aio.Server) -> None:
    """Register every method of GeolocationService; Locate returns the bytes of its response, the others messages."""
    handlers = {}
    for method in SERVICE.methods:
        request, response = getattr(pb, method.input_type.name), getattr(pb, method.output_type.name)
        handlers[method.name] = grpc.unary_unary_rpc_method_handler(
            getattr(servicer, method.name),
            request_deserializer=request.FromString,
            response_serializer=bytes if method.name == "Locate" else response.SerializeToString,
        )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
