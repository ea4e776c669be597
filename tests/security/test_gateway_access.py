"""What the gateway shows to whom: the page to everybody, the API to tokens, changes to roles."""

from __future__ import annotations

import asyncio
import pkgutil
import re
import ssl
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

import gateway.routes as gateway_routes
from gateway.access import is_public
from gateway.server import GatewayServer
from telemetry.runtime.security import SecurityFlags
from telemetry.runtime.token_file import add_token, remove_token
from telemetry.runtime.tokens import Role
from tests.security.certificates import Authority, Pair
from tests.security.conftest import serving

PUBLIC = {"/health", "/docs", "/openapi.json"}


class Guarded:
    """A gateway with a token of each role."""

    def __init__(self, folder: Path, flags: SecurityFlags | None = None) -> None:
        self.tokens = folder / "tokens"
        self.secrets = {role: add_token(self.tokens, role.label, role, {}) for role in Role}
        (folder / "static").mkdir()
        (folder / "static" / "index.html").write_text("<title>fleet</title>")
        flags = flags or SecurityFlags()
        self.server = GatewayServer(
            host="127.0.0.1",
            dashboard_port=0,
            api_port=0,
            queue="127.0.0.1:1",
            collectors=["127.0.0.1:1"],
            streamer_http="127.0.0.1:1",
            deadline_s=1.0,
            static_folder=folder / "static",
            security=SecurityFlags(flags.tls_cert, flags.tls_key, tokens=self.tokens).load("127.0.0.1"),
        )

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.api_port}"

    def client(self, role: Role | None = None) -> httpx.AsyncClient:
        headers = {} if role is None else self.bearer(role)
        return httpx.AsyncClient(base_url=self.origin, headers=headers, timeout=10)

    def bearer(self, role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[role]}"}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Guarded]:
    guarded = Guarded(tmp_path)
    async with guarded.server:
        yield guarded


def routes() -> list[tuple[str, str]]:
    """Method and path of every route, with something in place of its parameters."""
    modules = [import_module(f"gateway.routes.{each.name}") for each in pkgutil.iter_modules(gateway_routes.__path__)]
    return [
        (method, re.sub(r"\{[^}]*\}", "x", route.path))
        for module in modules
        for route in getattr(module, "router", APIRouter()).routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    ]


async def test_the_page_its_documentation_and_health_are_for_everybody(gateway: Guarded) -> None:
    async with gateway.client() as client:
        for path in ("/", "/gpus/x", *PUBLIC):
            assert (await client.get(path)).status_code == 200, path


async def test_every_other_route_needs_a_token(gateway: Guarded) -> None:
    found = [(method, path) for method, path in routes() if path not in PUBLIC and not path.startswith("/health/")]
    assert len(found) > 15
    async with gateway.client() as client:
        for method, path in found:
            assert not is_public(path), path
            answer = await client.request(method, path)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == 'Bearer realm="telemetry"'
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["content-security-policy"]
    async with gateway.client(Role.NONE) as client:
        for method, path in found:
            assert (await client.request(method, path)).status_code == 403, (method, path)


async def test_who_may_only_view_changes_nothing(gateway: Guarded) -> None:
    changes = [(method, path) for method, path in routes() if method != "GET" and "/session" not in path]
    assert changes
    async with gateway.client(Role.VIEW) as client:
        for method, path in changes:
            answer = await client.request(method, path, json={})
            assert answer.status_code == 403, (method, path, answer.text)
            assert "the token view has view" in answer.json()["detail"]
        assert (await client.get("/metrics")).status_code == 200


async def test_a_session_says_who_asks(gateway: Guarded) -> None:
    for role in (Role.VIEW, Role.OPERATE, Role.ADMIN):
        async with gateway.client(role) as client:
            answer = await client.get("/api/v1/session")
            assert answer.json() == {"tokens": True, "name": role.label, "role": role.label}


async def test_a_browser_signs_in_once_and_needs_no_header_then(gateway: Guarded) -> None:
    async with gateway.client() as client:
        wrong = await client.post("/api/v1/session", headers={"Authorization": "Bearer tlm_wrong"})
        assert wrong.status_code == 401
        signed_in = await client.post("/api/v1/session", headers=gateway.bearer(Role.VIEW))
        assert signed_in.json()["role"] == "view"
        cookie = signed_in.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "path=/" in cookie
        assert "max-age" not in cookie
        assert (await client.get("/api/v1/session")).json()["name"] == "view"
        async with client.stream("GET", "/api/v1/stream") as events:
            assert events.status_code == 200
            assert "retry:" in await anext(events.aiter_text())
        same_origin = {"Sec-Fetch-Site": "same-origin", "Origin": gateway.origin}
        assert (await client.delete("/api/v1/session", headers=same_origin)).status_code == 200
        assert (await client.get("/api/v1/session")).status_code == 401


async def test_a_cookie_alone_changes_nothing_unless_the_page_itself_asks(gateway: Guarded) -> None:
    others: list[dict[str, str]] = [
        {},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ]
    async with gateway.client() as client:
        await client.post("/api/v1/session", headers=gateway.bearer(Role.ADMIN))
        for headers in others:
            answer = await client.delete("/api/v1/session", headers=headers)
            assert answer.status_code == 403, headers
            assert "another site" in answer.json()["detail"]


async def test_a_token_that_is_revoked_ends_the_stream_of_its_bearer(gateway: Guarded) -> None:
    async with gateway.client(Role.VIEW) as client, asyncio.timeout(10):
        async with client.stream("GET", "/api/v1/stream") as events:
            pieces = events.aiter_text()
            await anext(pieces)
            remove_token(gateway.tokens, "view")
            assert [piece async for piece in pieces] == []
        assert (await client.get("/api/v1/session")).status_code == 401


async def test_over_tls_the_cookie_is_for_tls_only(tmp_path: Path, made: Authority, server_pair: Pair) -> None:
    guarded = Guarded(tmp_path, SecurityFlags(server_pair.cert, server_pair.key))
    async with guarded.server:
        context = ssl.create_default_context(cafile=made.path)
        async with httpx.AsyncClient(verify=context) as client:
            origin = guarded.origin.replace("http:", "https:")
            answer = await client.post(f"{origin}/api/v1/session", headers=guarded.bearer(Role.VIEW))
            assert "secure" in answer.headers["set-cookie"].lower()


async def test_without_tokens_everybody_sees_and_nobody_changes(tmp_path: Path) -> None:
    server = GatewayServer(
        host="127.0.0.1",
        dashboard_port=0,
        api_port=0,
        queue="127.0.0.1:1",
        collectors=["127.0.0.1:1"],
        streamer_http="127.0.0.1:1",
        static_folder=tmp_path,
    )
    async with server, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.api_port}") as client:
        assert (await client.get("/api/v1/session")).json() == {"tokens": False, "name": "", "role": "view"}
        answer = await client.post("/api/v1/session", headers={"Authorization": "Bearer x"})
        assert "set-cookie" not in answer.headers


async def test_what_a_page_may_do_is_said_strictly(gateway: Guarded) -> None:
    async with gateway.client() as client:
        answer = await client.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in answer.headers["permissions-policy"]
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers, "it was asked in the clear"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_requests_with_a_token_are_counted_by_their_route(gateway: Guarded) -> None:
    async with gateway.client(Role.VIEW) as client:
        await client.get("/api/v1/session")
        counted = (await client.get("/metrics")).text
    assert 'route="/api/v1/session"' in counted


async def test_a_token_of_the_gateway_that_is_refused_is_not_the_fault_of_who_asks(tmp_path: Path) -> None:
    add_token(tmp_path / "tokens", "a", Role.VIEW, {})
    async with serving(SecurityFlags(tokens=tmp_path / "tokens")) as queue:
        server = GatewayServer(
            host="127.0.0.1",
            dashboard_port=0,
            api_port=0,
            queue=f"127.0.0.1:{queue.grpc_port}",
            collectors=["127.0.0.1:1"],
            streamer_http="127.0.0.1:1",
            static_folder=tmp_path,
        )
        async with server, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.api_port}") as client:
            answer = await client.get("/api/v1/queue/stats")
    assert answer.status_code == 502
    assert "the queue does not accept the gateway's token, which --token-file names" in answer.json()["detail"]
