"""The dashboard's files: assets that never change, and one page that answers every path a viewer can be at."""

from __future__ import annotations

import base64
import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC_FOLDER: Final = Path(__file__).parent / "static"
"""Where `make web` puts the dashboard."""
ASSETS: Final = "assets"
"""The folder of files with a hash of their content in their names."""
_NOT_PAGES: Final = frozenset({"api", "docs", "health", "metrics", "prometheus", "openapi.json", ASSETS})
"""First parts of paths that are never the page's own."""


def content_security_policy(style: str = "") -> str:
    """What a page of ours may load: only what comes from this very server, and one ``style`` element of its own."""
    styles = "'self'"
    if style:
        styles += f" 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
    return (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"manifest-src 'self'; style-src {styles}; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    )


NOT_BUILT: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>The dashboard is not built</title></head>
<body>
<h1>The dashboard is not built</h1>
<p>Build it in the project's folder, then load this page again:</p>
<pre>make web</pre>
<p>The API works without it: <a href="/docs">its documentation</a>.</p>
</body>
</html>
"""


class Page(StaticFiles):
    """Serves the built dashboard; to be mounted after all other routes."""

    def __init__(self, folder: Path = STATIC_FOLDER) -> None:
        """Serve ``folder``, which need not exist yet."""
        super().__init__(directory=folder, check_dir=False)
        self.config_checked = True
        self._index = folder / "index.html"

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, else the page unless the path belongs to something else."""
        first = Path(path).parts[0] if path not in ("", ".") else ""
        if scope["method"] == "GET" and first in _NOT_PAGES - {ASSETS}:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != HTTPStatus.NOT_FOUND or first == ASSETS:
                raise
            return self._page()
        unchanging = first == ASSETS
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if unchanging else "no-cache"
        return response

    def _page(self) -> Response:
        if not self._index.is_file():
            return HTMLResponse(NOT_BUILT, HTTPStatus.SERVICE_UNAVAILABLE, {"Cache-Control": "no-store"})
        return FileResponse(self._index, headers={"Cache-Control": "no-cache"})
