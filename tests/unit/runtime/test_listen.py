"""What counts as this machine, and what is said when nothing can be bound."""

from __future__ import annotations

import pytest

from telemetry.runtime.errors import StartupError
from telemetry.runtime.listen import bind, is_loopback, join_address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_is_only_for_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", ""])
def test_any_other_address_can_be_reached_from_elsewhere(host: str) -> None:
    assert not is_loopback(host)


def test_an_ipv6_address_has_brackets() -> None:
    assert join_address("::1", 80) == "[::1]:80"
    assert join_address("127.0.0.1", 80) == "127.0.0.1:80"


def test_a_name_that_cannot_be_resolved_is_a_startup_error() -> None:
    with pytest.raises(StartupError, match=r"cannot listen on no\.such\.invalid:0 \(--grpc-port\)"):
        bind("no.such.invalid", 0, "--grpc-port")
