"""What all HTTP handlers share."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from config.schema import Config
from mediaserver.signalling.origins import Origins
from mediaserver.signalling.proxies import Proxies
from mediaserver.signalling.ratelimit import RateLimit
from mediaserver.signalling.sessions import Sessions
from mediaserver.signalling.tokens import Tokens


class Context:
    """The node's parts that requests need, and what is made of its configuration for them.

    `faults` of the workers, a sentence each; `obstacles` to joins: the faults, and a node that comes up or goes.
    """

    def __init__(
        self,
        config: Config,
        sessions: Sessions,
        metrics: Callable[[], bytes],
        faults: Callable[[], list[str]],
        obstacles: Callable[[], list[str]],
    ) -> None:
        limits = config.limits
        self.config, self.sessions, self.metrics = config, sessions, metrics
        self.faults, self.obstacles = faults, obstacles
        self.tokens = Tokens(config.auth)
        self.ice_servers = config.ice_servers
        self.origins = Origins(config)
        self.proxies = Proxies(config.http.trusted_proxies, config.http.base_path)
        self.joins = RateLimit(limits.joins_per_second, limits.joins_burst)
        self.requests = RateLimit(limits.requests_per_second, limits.requests_burst)
        self.refusals = RateLimit(limits.refusals_per_second, limits.refusals_burst)

    def take_keys(self, config: Config) -> None:
        """Take the keys of tokens, and the ICE servers with their secrets, from a configuration that was read anew."""
        self.tokens.auth = self.tokens.auth.model_copy(update={"keys": config.auth.keys})
        self.ice_servers = config.ice_servers


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
