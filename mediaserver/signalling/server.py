"""Listens for HTTP: takes connections in, counts them, watches their time, and keeps the certificate fresh.

A connection is counted from the moment it is accepted, before TLS, so that half-made ones count too. Every limit that
is hit is told in a log line, but not every time.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
import time
from collections import Counter, defaultdict

from aiohttp import web
from aiohttp.http import HttpProcessingError

from config.schema import Config
from mediaserver.logs import get_logger
from mediaserver.seldom import Seldom
from mediaserver.signalling.addresses import is_loopback
from mediaserver.signalling.certificates import Certificates
from mediaserver.signalling.connections import Connection
from mediaserver.signalling.proxies import Proxies
from mediaserver.signalling.ratelimit import source_of

log = get_logger("weir.http")
BACKLOG = 1024  # connections that the system keeps for us
BATCH = 64  # connections accepted before other work gets its turn
LOOK = 0.5  # seconds between two looks at the connections' times; a quarter of the shortest limit if that is less
BREATH = 1.0  # seconds without accepting after the system had no descriptor for us
RESERVE = 256  # descriptors that are not for connections, besides those of packet logs
DETAIL = (
    b'{"type": "about:blank", "title": "Service Unavailable", "status": 503, '
    b'"detail": "There are too many connections."}'
)
FULL = b"\r\n".join(
    (
        b"HTTP/1.1 503 Service Unavailable",
        b"Retry-After: 5",
        b"Connection: close",
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(DETAIL),
        b"",
        DETAIL,
    )
)
TEMPORARY = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ServerLog:
    """What aiohttp says of a connection: a request that is none is the client's fault, worth one line at debug."""

    def debug(self, message: str, *parts: object, exc_info: object = None) -> None:
        """Its own small talk, and non-HTTP on a new connection."""
        if exc_info is not None:
            self.exception(message, *parts, exc_info=exc_info)

    warning = info = debug

    def exception(self, message: str, *parts: object, exc_info: object = None) -> None:
        """An error: of the client if it is one of the parser's, else ours."""
        if isinstance(exc_info, HttpProcessingError | web.RequestPayloadError | ConnectionError):
            reason = ascii(" ".join(getattr(exc_info, "message", str(exc_info)).split()))[1:-1][:200]
            log.debug("a request could not be read", source=str(parts[0] if parts else ""), reason=reason)
        elif isinstance(exc_info, BaseException):
            log.error(message % parts if parts else message, exc_info=exc_info)

    error = exception


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; "::" takes IPv6 and IPv4. Raises OSError when the address is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setblocking(False)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def connections_allowed(config: Config) -> int:
    """http.connections, or fewer where the system gives the process too few descriptors; the soft limit is raised."""
    logs = config.media.workers * (config.logs.video.count + config.logs.audio.count)
    wanted = config.http.connections + logs + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return config.http.connections
    allowed = max(soft - logs - RESERVE, soft // 4)
    log.warning("fewer connections than http.connections: raise the limit of open files (ulimit -n)", allowed=allowed)
    return allowed


class HttpServer:
    """The HTTP side's sockets."""

    def __init__(self, app: web.Application, config: Config) -> None:
        self.config = config
        self.certificates = Certificates.of(config.http)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            logger=ServerLog(),
            lingering_time=config.http.body_timeout,
            auto_decompress=False,
        )
        self._proxies = Proxies(config.http.trusted_proxies)
        self._sock: socket.socket | None = None
        self._open: set[Connection] = set()
        self._sources: Counter[str] = Counter()
        self._held = 0  # connections that are counted, those in a TLS handshake too
        self._allowed = 0
        self._arriving: set[asyncio.Task[None]] = set()
        self._watchers: list[asyncio.Task[None]] = []
        self._refused, self._insecure, self._starved = Seldom(), Seldom(), Seldom()
        self._ended: defaultdict[str, Seldom] = defaultdict(Seldom)  # by reason, of which there are a few

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        self._allowed = connections_allowed(self.config)
        await self._runner.setup()
        self._sock = listening(self.config.http.host, self.config.http.port)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sock, self._accept)
        self._watchers = [loop.create_task(self._watch())]
        if self.certificates is not None:
            self._watchers.append(loop.create_task(self.certificates.watch()))

    async def stop(self) -> None:
        """Take no more connections, let answers end, close the others."""
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None
        for task in [*self._watchers, *self._arriving]:
            task.cancel()
        await self._runner.cleanup()
        await asyncio.gather(*self._watchers, *self._arriving, return_exceptions=True)

    def reload(self) -> None:
        """Read certificate and key again."""
        if self.certificates is not None:
            self.certificates.reload()

    def _accept(self) -> None:
        for _ in range(BATCH):
            if self._sock is None:
                return
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in TEMPORARY:
                    self._pause(error)
                    return
                continue  # this one client was gone before it was taken in
            self._take(sock, str(peer[0]))

    def _pause(self, error: OSError) -> None:
        """The system has nothing left for a connection: wait a little, since asking again would say the same."""
        loop, sock = asyncio.get_running_loop(), self._sock
        assert sock is not None
        loop.remove_reader(sock)
        loop.call_later(BREATH, lambda: loop.add_reader(sock, self._accept) if self._sock is sock else None)
        if self._starved.due("", time.monotonic()) is not None:
            log.error("no connection can be taken in", reason=error.strerror)

    def _take(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        source = "" if self._is_unlimited(peer) else source_of(peer)
        reason = self._objection(source)
        if reason:
            self._refuse(sock, peer, reason)
            return
        self._held += 1
        self._sources[source] += 1
        task = asyncio.get_running_loop().create_task(self._welcome(sock, source, peer))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        task.add_done_callback(lambda done: sock.close() if done.cancelled() else None)

    def _is_unlimited(self, peer: str) -> bool:
        """Proxies speak for many; load tests on this machine are welcome where the configuration says so."""
        return self._proxies.trusts(peer) or (self.config.limits.unlimited_loopback_joins and is_loopback(peer))

    def _objection(self, source: str) -> str | None:
        if self._held >= self._allowed:
            return f"there are {self._held}, which is the limit (http.connections)"
        most = self.config.http.connections_per_source
        if source and self._sources[source] >= most:
            return f"it has {most}, which is the limit (http.connections_per_source)"
        return None

    def _refuse(self, sock: socket.socket, peer: str, reason: str) -> None:
        if self.certificates is None:
            try:
                sock.send(FULL)
            except OSError:
                pass
        sock.close()
        unsaid = self._refused.due(source_of(peer), time.monotonic())
        if unsaid is not None:
            log.warning("connection refused", source=peer, reason=reason, unsaid=unsaid)

    async def _welcome(self, sock: socket.socket, source: str, peer: str) -> None:
        """Make the connection, with TLS where there is a certificate; it gives its place back when it ends."""
        assert self._runner.server is not None
        loop, limit = asyncio.get_running_loop(), self.config.http.header_timeout
        connection = Connection(self._runner.server(), loop.time, self._gone)
        connection.source = source
        context = None if self.certificates is None else self.certificates.context
        self._open.add(connection)
        try:
            await loop.connect_accepted_socket(
                lambda: connection, sock, ssl=context, ssl_handshake_timeout=None if context is None else limit
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError) as error:
            self._gone(connection)
            if isinstance(error, asyncio.CancelledError):
                raise
            if self._insecure.due(source_of(peer), time.monotonic()) is not None:
                log.info("no TLS came about", source=peer, reason=ascii(str(error))[1:-1][:200] or "the client left")

    def _gone(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._held -= 1
            self._sources[connection.source] -= 1
            if not self._sources[connection.source]:
                del self._sources[connection.source]

    async def _watch(self) -> None:
        http = self.config.http
        pause = min(LOOK, http.header_timeout / 4, http.idle_timeout / 4, http.write_timeout / 4)
        while True:
            await asyncio.sleep(pause)
            for connection in list(self._open):
                reason = connection.overdue(http)
                if reason:
                    self._end(connection, reason)

    def _end(self, connection: Connection, reason: str) -> None:
        transport = connection.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        if connection.shut():
            source = str(peer[0]) if peer else ""
            unsaid = self._ended[reason].due(source_of(source), time.monotonic())
            if unsaid is not None:
                log.info("connection closed", source=source, reason=reason, unsaid=unsaid)
