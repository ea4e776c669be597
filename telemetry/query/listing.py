"""Asking collectors which GPUs they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from telemetry.query.collector import CollectorClient
from telemetry.query.fleet import Holding, matches, unite
from telemetry.query.members import ask, together
from telemetry.v1 import query_pb2

SELECTED_MAX: Final = 10_000
"""Most GPUs that one request names."""

Fleet = tuple[dict[str, Holding], query_pb2.Completeness]
"""GPUs by identity, in order, and how complete they are."""


async def fleet_of(members: Sequence[CollectorClient], selector: query_pb2.GpuSelector, prefix: str = "") -> Fleet:
    """The GPUs that a selector chooses, with all who hold them, and how complete that is."""
    wanted = query_pb2.ListGpusRequest(selector=selector, gpu_prefix=prefix)
    answers = await ask(members, partial(_all_gpus, requests=[wanted]))
    found = [(member, gpu) for member, answer in answers.given for gpu in answer.gpus]
    completeness = answers.completeness()
    if not selector.hosts and not selector.labels:
        return unite(found), completeness
    # A collector that has only old records of a GPU knows old labels of it; the newest count.
    names = {gpu.gpu for _, gpu in found}
    lacking = {member.address: sorted(names - {gpu.gpu for gpu in answer.gpus}) for member, answer in answers.given}

    async def others(member: CollectorClient, deadline_s: float) -> query_pb2.ListGpusResponse:
        parts = _portions(lacking[member.address])
        requests = [query_pb2.ListGpusRequest(selector=part) for part in parts]
        return await _all_gpus(member, deadline_s, requests=requests)

    having = [member for member, _ in answers.given if lacking[member.address]]
    if having:
        more = await ask(having, others, all_may_fail=True)
        found += [(member, gpu) for member, answer in more.given for gpu in answer.gpus]
        completeness = together(completeness, more.completeness())
    fleet = {name: holding for name, holding in unite(found).items() if matches(holding.gpu, selector)}
    return fleet, completeness


async def _all_gpus(
    member: CollectorClient, deadline_s: float, *, requests: Sequence[query_pb2.ListGpusRequest]
) -> query_pb2.ListGpusResponse:
    """All pages of all requests as one."""
    whole = query_pb2.ListGpusResponse()
    for request in requests:
        wanted = query_pb2.ListGpusRequest()
        wanted.CopyFrom(request)
        wanted.page_size = SELECTED_MAX
        while True:
            answer = await member.list_gpus(wanted, deadline_s)
            whole.gpus.extend(answer.gpus)
            whole.completeness.MergeFrom(answer.completeness)
            wanted.page_token = answer.next_page_token
            if not wanted.page_token:
                break
    return whole


def by_name(selector: query_pb2.GpuSelector, fleet: Iterable[str]) -> list[query_pb2.GpuSelector]:
    """The same selection by identities alone, which every collector understands in the same way: in parts, in order."""
    if not selector.hosts and not selector.labels:
        return [selector]
    # An empty list would mean all; no GPU has an empty name.
    return _portions(list(fleet) or [""])


def _portions(names: Sequence[str]) -> list[query_pb2.GpuSelector]:
    starts = range(0, len(names), SELECTED_MAX)
    return [query_pb2.GpuSelector(gpus=names[start : start + SELECTED_MAX]) for start in starts]
