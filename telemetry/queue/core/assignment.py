"""Who owns which partition of an ORDERED group: evenly, and moving as little as possible."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

P = TypeVar("P", bound=Hashable)
M = TypeVar("M", bound=Hashable)


def assign(partitions: Sequence[P], members: Sequence[M], owners: Mapping[P, M]) -> dict[P, M]:
    """Give each partition an owner: no two members differ by more than one, and owners stay as far as that allows."""
    if not members:
        return {}
    fewest, larger = divmod(len(partitions), len(members))
    owned: dict[M, list[P]] = {member: [] for member in members}
    loose: list[P] = []
    for partition in partitions:
        owner = owners.get(partition)
        if owner in owned:
            owned[owner].append(partition)
        else:
            loose.append(partition)
    # Those who have the most already are the ones to keep one more than the others.
    quotas: dict[M, int] = {}
    for rank, member in enumerate(sorted(members, key=lambda m: -len(owned[m]))):
        quotas[member] = fewest + (rank < larger)
    for member in members:
        loose.extend(owned[member][quotas[member] :])
        del owned[member][quotas[member] :]
    for member in members:
        missing = quotas[member] - len(owned[member])
        owned[member].extend(loose[:missing])
        del loose[:missing]
    return {partition: member for member, kept in owned.items() for partition in kept}
