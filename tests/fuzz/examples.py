"""How hard the fuzz tests try."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, settings

ROUNDS: Final = int(os.environ.get("TELEMETRY_TEST_ROUNDS") or 1)
"""How many times longer than usual the tests shall be."""

Test = TypeVar("Test", bound=Callable[..., Any])


def examples(count: int) -> Callable[[Test], Test]:
    """Try so many examples, times TELEMETRY_TEST_ROUNDS. What is found is printed so that it can be repeated."""
    return settings(
        max_examples=count * ROUNDS,
        deadline=None,
        print_blob=True,
        database=None,
        # A server is started once a test, not once an example.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
