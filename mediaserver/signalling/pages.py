"""The page and its modules, with the headers that keep other pages off them.

No other page may frame them, look into them or hold a handle on their window; nothing but their own files runs in
them, and they talk to this node alone. Addresses in them are relative, so they work below any path that ends in a
slash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

WEB = Path(__file__).parent.parent / "web"
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
POLICY = "; ".join(
    (
        "default-src 'self'",
        "connect-src 'self'",
        "media-src 'self' blob: mediastream:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",  # for browsers that know no frame-ancestors
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), geolocation=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page_of(file: Path) -> Handler:
    """The handler of one file. It is small and read anew each time, so that it can be edited under a running node."""

    async def page(request: web.Request) -> web.StreamResponse:
        """GET a file of the page."""
        body = file.read_bytes()
        tag = hashlib.sha256(body).hexdigest()[:16]
        headers = HEADERS | {"ETag": f'"{tag}"'}
        if f'"{tag}"' in ",".join(request.headers.getall("If-None-Match", [])):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=TYPES[file.suffix], charset="utf-8", headers=headers)

    return page


def to_folder(path: str) -> Handler:
    """A redirect from a path to the folder of that name: relative addresses need the slash."""

    async def redirect(request: web.Request) -> web.StreamResponse:
        """GET without the slash."""
        query = f"?{request.query_string}" if request.query_string else ""
        return web.Response(status=308, headers={"Location": f"{path}/{query}"})

    return redirect


def add_routes(app: web.Application, base: str) -> None:
    """The page below a path, "" or /some/path."""
    app.router.add_get(f"{base}/", page_of(WEB / "index.html"))
    if base:
        app.router.add_get(base, to_folder(base))
    for file in WEB.rglob("*"):
        if file.suffix in TYPES:
            app.router.add_get(f"{base}/{file.relative_to(WEB).as_posix()}", page_of(file))
