"""How people name GPUs: by identity, by ``host/index``, or by how the identity begins."""

from __future__ import annotations

from telemetry.query.fanout import Collectors
from telemetry.v1 import query_pb2


async def gpus_named(collectors: Collectors, name: str, limit: int) -> query_pb2.ListGpusResponse:
    """The GPU of this identity, else the one with this ``host/index``, else those whose identity begins so.

    Args:
        collectors: whom to ask.
        name: what somebody wrote.
        limit: the most GPUs to return; how many there are is in the answer's ``total``.

    Raises:
        UpstreamError: if no collector answers.
    """
    # Most names are identities, and a collector finds one by that without looking at its whole fleet.
    selector = query_pb2.GpuSelector(gpus=[name])
    exact = await collectors.list_gpus(query_pb2.ListGpusRequest(selector=selector, page_size=1))
    if exact.gpus:
        return exact
    found = await collectors.list_gpus(query_pb2.ListGpusRequest(gpu_prefix=name, page_size=limit))
    host, slash, index = name.rpartition("/")
    if slash and host and index:
        selector = query_pb2.GpuSelector(hosts=[host], labels={"index": index})
        there = await collectors.list_gpus(query_pb2.ListGpusRequest(selector=selector, page_size=limit))
        if there.gpus:
            return there
    return found
