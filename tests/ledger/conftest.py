"""Seeds that are printed and can be set, and ports that stay free while their owner is dead."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

import pytest

from tests.crash.conftest import chance, rounds

__all__ = ["chance", "free_ports", "rounds"]


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """Finds ports below those that the system gives to outgoing connections."""

    def find(count: int) -> list[int]:
        found: list[int] = []
        for port in random.sample(range(20_000, 32_000), 1000):
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            found.append(port)
            if len(found) == count:
                return found
        raise AssertionError(f"there are no {count} free ports")

    return find
