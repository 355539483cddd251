"""Offer and answer for WHIP and WHEP: the names that the HTTP handlers use. All of it is pure: text in, text out.

`codec_match` knows the codecs, `sections` and `offers` read what a peer wants, `answers` writes what it gets.
"""

from __future__ import annotations

from mediaserver.signalling.answers import LocalTrack, LocalTransport, answer_publisher, answer_subscriber
from mediaserver.signalling.codec_match import Codec, match_codec
from mediaserver.signalling.offers import (
    Encoding,
    Offer,
    PublishedMedia,
    PublisherOffer,
    SubscribedMedia,
    SubscriberOffer,
    literal_candidates,
    read_publisher_offer,
    read_subscriber_offer,
)
from mediaserver.signalling.sections import NegotiationError

__all__ = [
    "Codec",
    "Encoding",
    "LocalTrack",
    "LocalTransport",
    "NegotiationError",
    "Offer",
    "PublishedMedia",
    "PublisherOffer",
    "SubscribedMedia",
    "SubscriberOffer",
    "answer_publisher",
    "answer_subscriber",
    "literal_candidates",
    "match_codec",
    "read_publisher_offer",
    "read_subscriber_offer",
]
