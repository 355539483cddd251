"""Whatever the text, reading it gives a description or SdpError, and an offer is answered or refused, nothing else."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mediacodecs.sdp import SdpError, parse_candidate, parse_fragment, parse_sdp, serialise
from mediaserver.signalling.negotiation import (
    LocalTrack,
    LocalTransport,
    NegotiationError,
    answer_publisher,
    answer_subscriber,
    read_publisher_offer,
    read_subscriber_offer,
)

CORPUS = [path.read_bytes().decode() for path in sorted((Path(__file__).parent / "corpus" / "sdp").glob("*.sdp"))]
LINES = sorted({line for text in CORPUS for line in text.split("\r\n")})
LOCAL = LocalTransport("ufrag", "p" * 22, ":".join(["AA"] * 32), [("127.0.0.1", 7882)])
PIECES = [
    "",
    " ",
    ":",
    ";",
    "/",
    "~",
    ",",
    "=",
    "\r",
    "\n",
    "\x00",
    "\ud800",
    "²",
    "٣",
    "4294967296",
    "-1",
    "99999999999",
    "*",
]


def mutated(text: str, seed: int) -> str:
    """The text after one to eight edits: characters or lines cut, doubled, swapped, or pieces put in."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 8)):
        at, length = rng.randrange(len(text) + 1), rng.choice((0, 1, 1, 2, 5, 40))
        lines = text.split("\r\n")
        match rng.randrange(4):
            case 0:
                text = text[:at] + rng.choice(PIECES) + text[at + length :]
            case 1:
                text = text[:at] + text[at : at + length] * 2 + text[at + length :]
            case 2:
                lines[rng.randrange(len(lines))] = rng.choice(LINES)
                text = "\r\n".join(lines)
            case _:
                del lines[rng.randrange(len(lines))]
                text = "\r\n".join(lines)
    return text


def try_everything(text: str) -> None:
    """Every reader on the text; what is read must be the same after writing it, and answers must be readable."""
    try:
        description = parse_sdp(text)
        assert parse_sdp(serialise(description)) == description
    except SdpError as error:
        assert str(error).isprintable() and str(error).endswith(".")
    try:
        parse_fragment(text)
    except SdpError:
        pass
    try:
        answer = answer_publisher(read_publisher_offer(text), LOCAL)
        assert len(parse_sdp(answer).media) == len(description.media)
    except NegotiationError as error:
        assert error.status in (400, 422)
    try:
        offer = read_subscriber_offer(text)
        tracks = [LocalTrack(m.mid, 2 * m.index + 1, 2 * m.index + 2, "c", "s", "t") for m in offer.media]
        assert len(parse_sdp(answer_subscriber(offer, LOCAL, tracks)).media) == len(description.media)
    except NegotiationError as error:
        assert error.status in (400, 422)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(CORPUS), st.integers(0, 2**32))
def test_damaged_real_offers_are_read_or_refused(text: str, seed: int) -> None:
    try_everything(mutated(text, seed))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(LINES) | st.text(max_size=40), max_size=30))
def test_shuffled_lines_are_read_or_refused(lines: list[str]) -> None:
    try_everything("v=0\r\n" + "\r\n".join(lines))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(), max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try_everything(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(LINES).map(lambda line: line[:12]), st.text(st.characters(), max_size=60))
def test_attributes_with_any_value_are_read_or_refused(name: str, value: str) -> None:
    try_everything(f"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n{name}{value}\r\n")


@given(st.text(st.characters(), max_size=120))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_candidate_is_read_or_refused(text: str) -> None:
    try:
        _ = parse_candidate(text).ip
    except SdpError:
        pass
