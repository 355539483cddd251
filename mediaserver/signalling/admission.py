"""Admission by share: what one participant, one identity and one source address may take of the node.

A join reserves counts with its POST and gets memory only once its handshake is done, so what is held without a
connection is bounded here: an offer by its size, a publisher's identity by the sessions it may have, a viewer and every
unfinished handshake by the address they come from (many viewers may share one token).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from contextlib import ExitStack

from config.schema import Limits
from mediacodecs.extensions import TWCC
from mediaserver.engine.engine import Need
from mediaserver.signalling.offers import PublisherOffer, SubscriberOffer
from mediaserver.signalling.problems import Problem

TRACKS_OF_ONE = 4  # tracks of a viewer who counts as one: two publishers' sound and picture
RETRY = {"Retry-After": "5"}


class Quota:
    """How much each holder has, and the most it may have. A holder of None is not counted."""

    def __init__(self, limit: int, refusal: str) -> None:
        self.limit, self.refusal = limit, refusal
        self._held: Counter[Hashable] = Counter()

    def take(self, holder: Hashable | None, weight: int) -> None:
        """So much more. Raises Problem 429."""
        if holder is None:
            return
        if self._held[holder] + weight > self.limit and self._held[holder]:
            raise Problem(429, self.refusal.format(self.limit), headers=RETRY, reason="share")
        self._held[holder] += weight

    def give(self, holder: Hashable | None, weight: int) -> None:
        """So much less."""
        if holder is None:
            return
        self._held[holder] -= weight
        if self._held[holder] <= 0:
            del self._held[holder]

    def held(self, holder: Hashable) -> int:
        """How much a holder has."""
        return self._held.get(holder, 0)

    @property
    def total(self) -> int:
        """How much all holders have."""
        return self._held.total()


class Admission:
    """The quotas of the node, and how large an offer may be."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.viewers = Quota(limits.viewers_per_source, "This address has its share of the node: {} viewers.")
        self.handshakes = Quota(
            limits.handshakes_per_source, "This address has its share of the node: {} unfinished handshakes."
        )

    def publishing(self, offer: PublisherOffer) -> Need:
        """What a publisher will take. Raises Problem 403 when that is more than one participant's share."""
        counts = Counter({"audio": 0, "video": 0})
        for media in offer.media:
            counts[media.kind] += len(media.encodings)
        self._within(len(offer.media), self.limits.tracks_per_participant, "tracks")
        self._within(counts.total(), self.limits.layers_per_participant, "layers")
        feedback = any(TWCC in media.extensions.values() for media in offer.media)
        return Need(audio=counts["audio"], video=counts["video"], feedback=feedback)

    def watching(self, offer: SubscriberOffer) -> Need:
        """What a viewer will take. Raises Problem 403 when that is more than one participant's share."""
        count = len(offer.media)
        self._within(count, self.limits.subscriptions_per_participant, "tracks to receive")
        return Need(subscriptions=count)

    def _within(self, count: int, most: int, what: str) -> None:
        if count > most:
            detail = f"The offer has {count} {what}; a participant may have {most}."
            raise Problem(403, detail, reason="share")


def weight_of(need: Need) -> int:
    """How many a join counts as: a publisher as its layers, a viewer as a quarter of its tracks; at least as one."""
    return max(1, need.audio + need.video + need.subscriptions // TRACKS_OF_ONE)


class Hold:
    """What a session holds of the quotas: given back once, whatever way it ends."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def take(self, quota: Quota, holder: Hashable | None, weight: int) -> None:
        """Raises Problem 429."""
        quota.take(holder, weight)
        self._held.callback(quota.give, holder, weight)

    def release(self) -> None:
        """Give all of it back."""
        self._held.close()
