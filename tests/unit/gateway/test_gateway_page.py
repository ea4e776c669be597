"""The dashboard's files, and what is answered when they are not built."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def built(static_folder: Path) -> Iterator[Path]:
    """A dashboard as the build leaves it."""
    (static_folder / "assets").mkdir(parents=True)
    (static_folder / "index.html").write_text("<title>fleet</title>")
    (static_folder / "icon.svg").write_text("<svg/>")
    (static_folder / "assets" / "app-3f2a.js").write_text("1")
    (static_folder.parent / "secret.txt").write_text("secret")
    yield static_folder
    shutil.rmtree(static_folder)


@pytest.mark.parametrize(
    "path", ["/", "/index.html", "/gpu/GPU-1", "/gpus/node-1%2F0", "/hosts/a.example.com", "/queue"]
)
async def test_every_path_of_the_page_is_the_page_and_is_asked_for_again(
    path: str, built: Path, client: httpx.AsyncClient
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.text) == (200, "<title>fleet</title>")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"].startswith("text/html")


async def test_assets_never_change(built: Path, client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/app-3f2a.js")
    assert (answer.status_code, answer.text) == (200, "1")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/javascript")


async def test_other_files_are_served(built: Path, client: httpx.AsyncClient) -> None:
    answer = await client.get("/icon.svg")
    assert answer.text == "<svg/>"
    assert answer.headers["cache-control"] == "no-cache"
    again = await client.get("/icon.svg", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


async def test_an_asset_that_does_not_exist_is_not_the_page(built: Path, client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/app-0000.js")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/..%2Fsecret.txt", "/assets/..%2F..%2Fsecret.txt", "/%2e%2e/secret.txt", "//secret.txt"]
)
async def test_nothing_outside_the_folder_is_served(path: str, built: Path, client: httpx.AsyncClient) -> None:
    assert "secret" not in (await client.get(path)).text


@pytest.mark.parametrize("path", ["/", "/gpu/GPU-1"])
async def test_without_a_build_the_page_says_how_to_make_one(path: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(path)
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("text/html")
    assert "make web" in answer.text


async def test_a_build_is_found_without_a_restart(client: httpx.AsyncClient, static_folder: Path) -> None:
    assert (await client.get("/")).status_code == 503
    static_folder.mkdir()
    (static_folder / "index.html").write_text("<title>fleet</title>")
    assert (await client.get("/")).status_code == 200
    shutil.rmtree(static_folder)


@pytest.mark.parametrize("path", ["/", "/api/v1/metrics", "/docs", "/nothing", "/api/nothing"])
async def test_browsers_are_told_what_a_page_may_do(path: str, client: httpx.AsyncClient) -> None:
    headers = (await client.get(path)).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
