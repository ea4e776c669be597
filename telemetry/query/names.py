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
    found = await collectors.list_gpus(query_pb2.ListGpusRequest(gpu_prefix=name, page_size=limit))
    if found.gpus and found.gpus[0].gpu == name:  # an identity sorts before those that it is a prefix of
        return query_pb2.ListGpusResponse(gpus=found.gpus[:1], total=1, completeness=found.completeness)
    host, slash, index = name.rpartition("/")
    if slash and host and index:
        selector = query_pb2.GpuSelector(hosts=[host], labels={"index": index})
        there = await collectors.list_gpus(query_pb2.ListGpusRequest(selector=selector, page_size=limit))
        if there.gpus:
            return there
    return found
