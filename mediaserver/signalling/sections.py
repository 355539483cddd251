"""What the media sections of an offer share, and must not contradict each other in: the bundle (RFC 9143).

Attributes that are the same for all bundled sections stand in the tagged section, the first of the group, and need not
be repeated in others (section 7.1.3; RFC 8859 says which they are): they are read from there, then from the session.
Extension ids and payload types mean one thing in a whole bundle (sections 9.1 and 10).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mediacodecs.extensions import MID, TWCC, URIS
from mediacodecs.sdp import MediaDescription, SessionDescription
from mediaserver.signalling.codec_match import Codec, read_codecs

IDENTICAL = ("rtcp_mux", "rtcp_mux_only", "rtcp_rsize", "extmap_allow_mixed")  # of all sections of a bundle (RFC 8859)
RTX = -1  # in place of a codec, of a payload type that retransmits
MAX_MID = 16  # bytes; what a one-byte header extension carries
ONE_BYTE_IDS, TWO_BYTE_IDS = range(1, 15), range(1, 256)  # RFC 8285, sections 4.2 and 4.3


class NegotiationError(Exception):
    """An offer that can't be answered; status is the HTTP status for it, 400 or 422, and the message a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def refusal(status: int, description: SessionDescription, sentence: str) -> NegotiationError:
    """The refusal, and the lines that could not be read: what is missed may have stood there."""
    unread = "".join(f" Not understood: {line}" for line in description.skipped)
    return NegotiationError(status, sentence + unread)


def bundle_of(description: SessionDescription) -> tuple[str, ...]:
    """The mids of the first bundle group that has any."""
    return next((bundle for bundle in description.bundles if bundle), ())


def tagged_section(description: SessionDescription) -> MediaDescription | None:
    """The section that stands for the bundle: the first of the group that the offerer does not refuse itself."""
    sections = {section.mid: section for section in description.media if is_offered(section)}
    return next((sections[mid] for mid in bundle_of(description) if mid in sections), None)


def share_attributes(description: SessionDescription) -> None:
    """Give every bundled section the attributes that are the same in all and may stand in the tagged one alone."""
    tagged, mids = tagged_section(description), bundle_of(description)
    for section in description.media:
        for name in IDENTICAL if tagged is not None and section.mid in mids else ():
            setattr(section, name, getattr(section, name) or getattr(tagged, name))


def is_offered(section: MediaDescription) -> bool:
    """Whether a section is offered at all: port 0 refuses it, unless it waits for the bundle (RFC 9143, section 6)."""
    return bool(section.port or section.bundle_only)


def name_section(index: int, section: MediaDescription) -> str:
    """The section as a sentence begins with it."""
    mid = f", mid {section.mid[:20]}" if section.mid is not None else ""
    return f"Section {index + 1} of the offer ({section.kind[:20]}{mid})"


class SectionReader:
    """Reads what sections of one bundle have in common with each other, whoever sends.

    A later section loses what would mean another thing than in an earlier one. useless is the direction in which an
    extension is none for us: recvonly of a publisher's.
    """

    def __init__(self, description: SessionDescription, *, useless: str, unwanted: frozenset[int]) -> None:
        self.description, self.useless, self.unwanted = description, useless, unwanted
        self.shared = [ext for ext in description.extmap if ext.uri in URIS]
        self.uris: dict[int, str] = {}
        self.types: dict[int, tuple[int, int]] = {}

    def read(self, index: int, section: MediaDescription) -> dict[str, Any]:
        """The fields of Media, and extensions by id."""
        extensions = self._extensions(section)
        return {
            "mid": section.mid if section.mid is not None else str(index),  # a single section may do without
            "kind": section.kind,
            "index": index,
            "codecs": self._codecs(index, section, twcc=TWCC in extensions.values()),
            "allow_mixed": self._allow_mixed(section),
            "extensions": extensions,
        }

    def _allow_mixed(self, section: MediaDescription) -> bool:
        return self.description.extmap_allow_mixed or section.extmap_allow_mixed

    def _codecs(self, index: int, section: MediaDescription, *, twcc: bool) -> list[Codec]:
        """Raises NegotiationError when a publisher's other sections have left this one no payload type that we know."""
        known, found = read_codecs(section, twcc=twcc), []
        for codec in known:
            rtx = codec.rtx_payload_type
            if not self._is_free(codec.payload_type, (codec.codec, 0)):
                continue
            if rtx is not None and not self._is_free(rtx, (RTX, codec.payload_type)):
                codec = replace(codec, rtx_payload_type=None)
            found.append(codec)
        if known and not found and self.useless == "recvonly":
            sentence = f"{name_section(index, section)} can't be taken: its payload type {known[0].payload_type}"
            raise refusal(422, self.description, f"{sentence} means another codec in an earlier section.")
        return found

    def _is_free(self, payload_type: int, meaning: tuple[int, int]) -> bool:
        """Whether a payload type may mean this; from now on it means nothing else."""
        return self.types.setdefault(payload_type, meaning) == meaning

    def _extensions(self, section: MediaDescription) -> dict[int, int]:
        """{id: kind} of the header extensions that we take from the section."""
        usable = TWO_BYTE_IDS if self._allow_mixed(section) else ONE_BYTE_IDS
        unwanted = self.unwanted | ({MID} if len(section.mid or "") > MAX_MID else set())
        taken: dict[int, int] = {}
        for ext in [*section.extmap, *self.shared]:
            kind = URIS.get(ext.uri)
            wanted = kind is not None and kind not in unwanted and ext.direction not in (self.useless, "inactive")
            if kind is None or not wanted or ext.id not in usable or ext.id in taken or kind in taken.values():
                continue
            if self.uris.setdefault(ext.id, ext.uri) == ext.uri:
                taken[ext.id] = kind
        return taken
