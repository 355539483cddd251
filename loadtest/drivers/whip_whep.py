"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) against any server, Weir's layer resource included.

A server under load, or none at all, answers anything: what is not a session becomes a DriverError that says what came.
Only the target's host is ever spoken to, whatever redirects, `Location` or `Link` say.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from loadtest.drivers.base import Accepted, DriverError
from loadtest.drivers.tokens import Tokens, same
from loadtest.transport.addresses import may_send, why_not

SDP = "application/sdp"
PUBLISH_PATH, SUBSCRIBE_PATH = "/whip/{room}/{identity}", "/whep/{room}/{publisher}"
FIELDS = ("room", "identity", "publisher", "layer")
LAYER_RELATION = "urn:ietf:params:whep:ext:core:layer"
TIMEOUT = 20.0  # seconds for one request, redirects included
CONNECTIONS = 64
KEPT = 4.0  # seconds that an idle connection is kept: less than servers do, since a POST is not sent again
MAX_BODY = 256 * 1024  # bytes of an answer: what the SDP parser takes
READ = 16 * 1024
SHOWN = 160  # characters of a body in a message
REDIRECTS, MAX_REDIRECTS = (307, 308), 4  # those that keep the method and the body (RFC 9725 4.5)
GONE = (404, 410)
LINK = re.compile(r"<([^<>]*)>([^<]*)")  # one entry of a Link header and its parameters (RFC 8288)


@dataclass(frozen=True)
class Reply:
    """What a server answered, its body bounded."""

    url: str
    status: int
    headers: Mapping[str, str]
    links: tuple[str, ...]
    body: bytes

    @property
    def said(self) -> str:
        """The reason in the body, short and printable: a JSON problem's detail (RFC 9457) or the beginning."""
        text = self.body[: 8 * SHOWN].decode(errors="replace")
        try:
            problem = json.loads(self.body)
            text = str(problem.get("detail") or problem.get("title") or text) if isinstance(problem, dict) else text
        except (ValueError, RecursionError):
            pass
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:SHOWN]

    @property
    def kind(self) -> str:
        """The media type, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class Session:
    """What later requests of a session need: the token, and the layer resource if the server has named one."""

    headers: dict[str, str]
    layer: str | None


class LoopbackResolver(AbstractResolver):
    """Names resolve to what we may send to, or not at all."""

    def __init__(self, allow_remote: bool) -> None:
        self._inner, self._allow_remote = ThreadedResolver(), allow_remote

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """OSError when no address of the name is allowed."""
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if may_send(result["host"], self._allow_remote)]
        if not allowed:
            reasons = ", ".join(why_not(result["host"], self._allow_remote) for result in found)
            raise PermissionError(errno.EACCES, f"{host} is no address that we may send to: {reasons}")
        return allowed

    async def close(self) -> None:
        """Nothing is held."""


class WhipWhep:
    """One target. `leave` and `set_layer` take the `session` of what publish and subscribe returned."""

    def __init__(
        self,
        url: str,
        *,
        token: str | Tokens = "",
        publish_path: str = PUBLISH_PATH,
        subscribe_path: str = SUBSCRIBE_PATH,
        allow_remote: bool = False,
        timeout: float = TIMEOUT,
        connections: int = CONNECTIONS,
        verify: bool = True,
    ) -> None:
        """`url` is scheme, host and a prefix of the paths; these may have {room}, {identity}, {publisher} and {layer}.

        `token` is everybody's, or makes one for each client. `verify` False takes any TLS certificate.
        ValueError for a URL or a path that is of no use.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the target is an http or https URL, not {url!r}")
        if is_literal(parts.hostname) and not may_send(parts.hostname, allow_remote):
            raise ValueError(f"the target {url}: {why_not(parts.hostname, allow_remote)}")
        for path in (publish_path, subscribe_path):
            check_template(path)
        self._base, self._scheme, self._host = url.rstrip("/"), parts.scheme, URL(url).host
        self._publish_path, self._subscribe_path = publish_path, subscribe_path
        self._tokens = same(token) if isinstance(token, str) else token
        self._allow_remote, self._timeout = allow_remote, timeout
        self._connections, self._verify = connections, verify
        self._http: aiohttp.ClientSession | None = None
        self._sessions: dict[str, Session] = {}

    async def publish(self, room: str, identity: str, offer: str) -> Accepted:
        """POST an offer to publish. DriverError."""
        path = fill(self._publish_path, room=room, identity=identity)
        return await self._begin("publish", path, offer, bearer(self._tokens(room, identity, True)))

    async def subscribe(self, room: str, identity: str, publisher: str, offer: str, layer: str | None) -> Accepted:
        """POST an offer to watch; a layer goes into the path's {layer}, else into a `layer` query. DriverError."""
        names = {"room": room, "identity": identity, "publisher": publisher, "layer": layer or ""}
        path = fill(self._subscribe_path, **names)
        if layer and "{layer}" not in self._subscribe_path:
            path += ("&" if "?" in path else "?") + urlencode({"layer": layer})
        return await self._begin("subscribe", path, offer, bearer(self._tokens(room, identity, False)))

    async def leave(self, session: str) -> None:
        """DELETE the session. DriverError, also when the server no longer knows it. Cancelled: may be called again."""
        known = self._sessions.pop(session, None)
        if known is None:
            raise DriverError(f"{session} is none of our sessions", "leave")
        try:
            reply = await self._request("leave", "DELETE", session, known.headers)
        except asyncio.CancelledError:
            self._sessions[session] = known  # the server may not have heard of it
            raise
        if not 200 <= reply.status < 300:
            gone = " (the server no longer had the session)" if reply.status in GONE else ""
            raise refusal(reply, "leave", "DELETE", gone)

    async def set_layer(self, session: str, layer: str) -> None:
        """Ask for a layer by its rid at the layer resource that the server named. DriverError if it named none."""
        known = self._sessions.get(session)
        if known is None or known.layer is None:
            raise DriverError(f"the target has no layer resource for {session}", "layer")
        body, headers = json.dumps({"encodingId": layer}).encode(), {"Content-Type": "application/json"}
        reply = await self._request("layer", "POST", known.layer, known.headers | headers, body)
        if not 200 <= reply.status < 300:
            raise refusal(reply, "layer", "POST")

    async def close(self) -> None:
        """Close all connections."""
        if self._http:
            await self._http.close()
            self._http = None
        self._sessions.clear()

    async def _begin(self, step: str, path: str, offer: str, token: dict[str, str]) -> Accepted:
        headers = {"Content-Type": SDP, "Accept": SDP}
        reply = await self._request(step, "POST", self._base + path, token | headers, offer.encode())
        if reply.status != 201:
            raise refusal(reply, step, "POST")
        answer = read_sdp(reply, step)
        location = reply.headers.get("Location")
        if not location:
            raise DriverError(f"POST {reply.url}: 201 without a Location, so the session has no URL", step, 201)
        session = self._joined(reply.url, location, step, 201)
        layer = self._joined(reply.url, reply.links[0], step, 201) if reply.links else None
        self._sessions[session] = Session(token, layer)
        return Accepted(answer, session)

    def _joined(self, base: str, reference: str, step: str, status: int) -> str:
        """A URL that the server names. DriverError when it leads to another host or out of TLS."""
        try:
            url = URL(base).join(URL(reference))
            host, scheme = url.host, url.scheme
        except ValueError as error:
            raise DriverError(f"{base} names {reference[:SHOWN]!r}, which is no URL: {error}", step, status) from error
        if host != self._host or scheme not in ("https", self._scheme):
            raise DriverError(f"{base} leads to {str(url)[:SHOWN]}, which is not at {self._host}", step, status)
        return str(url.with_fragment(None))

    async def _request(
        self, step: str, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Reply:
        """One request and the redirects that it leads to. DriverError when there is no answer."""
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(MAX_REDIRECTS + 1):
                    reply = await self._exchange(step, method, url, headers, body)
                    if reply.status not in REDIRECTS or "Location" not in reply.headers:
                        return reply
                    url = self._joined(url, reply.headers["Location"], step, reply.status)
        except TimeoutError as error:
            raise DriverError(f"{method} {url}: no answer within {self._timeout:g} s", step) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DriverError(f"{method} {url}: {reason(error)}", step) from error
        raise DriverError(f"{method} {url}: more than {MAX_REDIRECTS} redirects", step)

    async def _exchange(
        self, step: str, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Reply:
        target = URL(url, encoded=True)
        async with self._session().request(method, target, data=body, headers=headers, allow_redirects=False) as answer:
            text = bytearray()
            async for piece in answer.content.iter_chunked(READ):
                text += piece
                if len(text) > MAX_BODY:
                    message = f"{method} {url}: {answer.status} with a body of more than {MAX_BODY} bytes"
                    raise DriverError(message, step, answer.status)
            links = layer_links(answer.headers.getall("Link", []))
            return Reply(url, answer.status, answer.headers, links, bytes(text))

    def _session(self) -> aiohttp.ClientSession:
        """Made at the first request, when a loop runs."""
        if self._http is None:
            tls: ssl.SSLContext | bool = True if self._verify else unverified()
            resolver = LoopbackResolver(self._allow_remote)
            connector = aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=KEPT, resolver=resolver, ssl=tls
            )
            timeout = aiohttp.ClientTimeout(total=None)  # ours covers the redirects too
            jar = aiohttp.DummyCookieJar()
            self._http = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar)
        return self._http


def bearer(token: str) -> dict[str, str]:
    """The header of a token, none for none."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def is_literal(host: str) -> bool:
    """Whether a URL's host is an IP address and not a name."""
    return ":" in host or re.fullmatch(r"[0-9.]+", host) is not None


def unverified() -> ssl.SSLContext:
    """TLS that takes any certificate: test servers sign their own."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def check_template(path: str) -> None:
    """ValueError for a path with fields that we don't fill."""
    if not path.startswith("/"):
        raise ValueError(f"a path begins with a slash: {path!r}")
    try:
        path.format(**dict.fromkeys(FIELDS, ""))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        fields = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise ValueError(f"the path {path!r} may have {fields}, and no other braces") from error


def fill(template: str, **names: str) -> str:
    """The path with percent-encoded names; query parameters that are left empty are left out."""
    values = {name: quote(names.get(name, ""), safe="") for name in FIELDS}
    parts = urlsplit(template)
    query = [part.format(**values) for part in parts.query.split("&") if part]
    kept = "&".join(part for part in query if not part.endswith("="))
    return urlunsplit(("", "", parts.path.format(**values), kept, ""))


def layer_links(headers: list[str]) -> tuple[str, ...]:
    """The targets of the Link entries that name a layer resource."""
    entries = LINK.findall(",".join(headers))
    return tuple(target for target, about in entries if LAYER_RELATION in about)


def read_sdp(reply: Reply, step: str) -> str:
    """The answer in a 201. DriverError when that is something else."""
    if reply.kind != SDP:
        kind = reply.kind or "no Content-Type"
        raise DriverError(
            f"POST {reply.url}: 201 with {kind} and not {SDP}: {reply.said or 'an empty body'}", step, 201
        )
    try:
        text = reply.body.decode()
    except UnicodeDecodeError as error:
        raise DriverError(f"POST {reply.url}: 201 with a body that is not UTF-8", step, 201) from error
    if not text.lstrip().startswith("v="):
        raise DriverError(f"POST {reply.url}: 201 without an SDP answer: {reply.said or 'an empty body'}", step, 201)
    return text


def refusal(reply: Reply, step: str, method: str, more: str = "") -> DriverError:
    """The error for a status that is not the one hoped for."""
    said = f": {reply.said}" if reply.said else ""
    wait = f", Retry-After {reply.headers['Retry-After'][:SHOWN]}" if "Retry-After" in reply.headers else ""
    return DriverError(f"{method} {reply.url}: {reply.status}{wait}{more}{said}", step, reply.status)


def reason(error: Exception) -> str:
    """What went wrong, also for errors that say nothing."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.strerror or error.os_error}"
    return str(error) or type(error).__name__
