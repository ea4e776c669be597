"""Listening beyond this machine has to be said aloud."""

from __future__ import annotations

import pytest

from telemetry.runtime.errors import StartupError
from telemetry.runtime.listen import bind, join_address, require_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    require_loopback(host, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", ""])
def test_any_other_address_needs_insecure(host: str) -> None:
    with pytest.raises(StartupError, match="--insecure"):
        require_loopback(host, insecure=False)
    require_loopback(host, insecure=True)


def test_an_ipv6_address_has_brackets() -> None:
    assert join_address("::1", 80) == "[::1]:80"
    assert join_address("127.0.0.1", 80) == "127.0.0.1:80"


def test_a_name_that_cannot_be_resolved_is_a_startup_error() -> None:
    with pytest.raises(StartupError, match=r"cannot listen on no\.such\.invalid:0 \(--grpc-port\)"):
        bind("no.such.invalid", 0, "--grpc-port")
