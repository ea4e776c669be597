"""Seeds that are printed and can be set, and ports that nobody takes while their owner is dead."""

from __future__ import annotations

import os
import random
import secrets
import socket

import pytest


@pytest.fixture
def chance() -> random.Random:
    """Randomness of this test; TELEMETRY_CRASH_SEED repeats its decisions (not the machine's timing)."""
    seed = int(os.environ.get("TELEMETRY_CRASH_SEED") or secrets.randbelow(1 << 32))
    print(f"TELEMETRY_CRASH_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def rounds() -> int:
    """How many times longer than usual the tests shall be."""
    return int(os.environ.get("TELEMETRY_TEST_ROUNDS") or 1)


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two ports below those that the system gives to outgoing connections, so that they stay free in between."""
    free: list[int] = []
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == 2:
            break
    return free[0], free[1]
