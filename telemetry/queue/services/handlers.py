"""Registers a service's methods so that batches pass through as bytes.

The generated registration would parse a batch into objects and build it again. Here a request that carries a batch is
parsed as its private twin, and responses encode themselves, twin or not. Reflection is not touched by this: it answers
from the public descriptors, whose wire format is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import Any, Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from telemetry.queue import wire_pb2
from telemetry.v1 import queue_pb2

REQUEST_TWINS: Final[Mapping[str, type[Message]]] = {
    queue_pb2.PublishRequest.DESCRIPTOR.full_name: wire_pb2.PublishRequest,
}
"""The private twin of each public request that carries a batch."""

_FACTORIES: Final[Mapping[tuple[bool, bool], Callable[..., grpc.RpcMethodHandler[Any, Any]]]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def register(service: ServiceDescriptor, implementation: object) -> Callable[[grpc.aio.Server], None]:
    """What registers ``implementation``, which has a method of each RPC's name, with a server."""
    handlers = {}
    for method in service.methods:
        request = REQUEST_TWINS.get(method.input_type.full_name) or GetMessageClass(method.input_type)
        handlers[method.name] = _FACTORIES[method.client_streaming, method.server_streaming](
            getattr(implementation, method.name),
            request_deserializer=request.FromString,
            response_serializer=methodcaller("SerializeToString"),
        )
    generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
    return lambda server: server.add_generic_rpc_handlers((generic,))
