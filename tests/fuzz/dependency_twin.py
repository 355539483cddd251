"""A plain Python dependency descriptor (AV1 RTP payload, Appendix A): a writer, and a reader that keeps lists."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.fuzz.payload_twins import BLANK, Bits, Fields

OK, TRUNCATED, MALFORMED, NO_STRUCTURE = range(4)


@dataclass(frozen=True)
class Template:
    """One frame dependency template."""

    spatial: int
    temporal: int
    dtis: list[int]
    fdiffs: list[int] = field(default_factory=list)
    chains: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Structure:
    """A template dependency structure."""

    offset: int
    templates: list[Template]
    protected_by: list[int]  # chain of each decode target; empty: no chains
    sizes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def targets(self) -> int:
        return len(self.templates[0].dtis)

    @property
    def chains(self) -> int:
        return len(self.templates[0].chains)


@dataclass(frozen=True)
class Descriptor:
    """One dependency descriptor; None: the template's own."""

    start: int
    end: int
    template: int  # id
    number: int
    structure: Structure | None = None
    active: int | None = None
    dtis: list[int] | None = None
    fdiffs: list[int] | None = None
    chains: list[int] | None = None


def ns(count: int, value: int) -> str:
    """write_ns of the specification."""
    if count == 1:
        return ""
    width = count.bit_length()
    short = (1 << width) - count
    return f"{value:0{width - 1}b}" if value < short else f"{value + short:0{width}b}"


def write_structure(s: Structure) -> str:
    text = f"{s.offset:06b}{s.targets - 1:05b}"
    for one, two in zip(s.templates, s.templates[1:], strict=False):
        text += "10" if two.spatial > one.spatial else "01" if two.temporal > one.temporal else "00"
    text += "11" + "".join(f"{dti:02b}" for t in s.templates for dti in t.dtis)
    text += "".join("".join(f"1{fdiff - 1:04b}" for fdiff in t.fdiffs) + "0" for t in s.templates)
    text += ns(s.targets + 1, s.chains)
    if s.chains:
        text += "".join(ns(s.chains, chain) for chain in s.protected_by)
        text += "".join(f"{chain:04b}" for t in s.templates for chain in t.chains)
    return text + str(int(bool(s.sizes))) + "".join(f"{w - 1:016b}{h - 1:016b}" for w, h in s.sizes)


def write_fdiff(fdiff: int) -> str:
    size = max(1, ((fdiff - 1).bit_length() + 3) // 4)
    return f"{size:02b}{fdiff - 1:0{4 * size}b}"


def write(d: Descriptor, targets: int) -> bytes:
    """The bytes of a descriptor for a stream with so many decode targets."""
    text = f"{d.start}{d.end}{d.template:06b}{d.number:016b}"
    extended = (d.structure, d.active, d.dtis, d.fdiffs, d.chains)
    if any(part is not None for part in extended):
        text += "".join(str(int(part is not None)) for part in extended)
        text += write_structure(d.structure) if d.structure else ""
        text += f"{d.active:0{targets}b}" if d.active is not None else ""
        text += "".join(f"{dti:02b}" for dti in d.dtis or [])
        text += "".join(map(write_fdiff, d.fdiffs)) + "00" if d.fdiffs is not None else ""
        text += "".join(f"{chain:08b}" for chain in d.chains or [])
    return bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))


class Refused(Exception):
    """A descriptor that can't be used; args[0] is the code."""


def read_ns(bits: Bits, count: int) -> int:
    width = count.bit_length()
    short = (1 << width) - count
    value = bits.number(width - 1)
    return value if value < short else value * 2 - short + bits.number(1)


def read_structure(bits: Bits) -> Structure:
    offset, targets = bits.number(6), bits.number(5) + 1
    layers = [(0, 0)]
    while (step := bits.number(2)) != 3:
        spatial, temporal = layers[-1]
        layers.append([(spatial, temporal), (spatial, temporal + 1), (spatial + 1, 0)][step])
        if len(layers) > 64 or layers[-1][0] > 3 or layers[-1][1] > 7:
            raise Refused(MALFORMED)
    templates = [Template(*layer, [bits.number(2) for _ in range(targets)]) for layer in layers]
    for template in templates:
        while bits.number(1):
            if len(template.fdiffs) == 16:
                raise Refused(MALFORMED)
            template.fdiffs.append(bits.number(4) + 1)
    count = read_ns(bits, targets + 1)
    protected_by = [read_ns(bits, count) for _ in range(targets)] if count else []
    for template in templates:
        template.chains.extend(bits.number(4) for _ in range(count))
    sized = bits.number(1)
    sizes = [(bits.number(16) + 1, bits.number(16) + 1) for _ in range(layers[-1][0] + 1)] if sized else []
    if bits.over:
        raise Refused(TRUNCATED)
    return Structure(offset, templates, protected_by, sizes)


class Stream:
    """What a receiver of descriptors keeps."""

    def __init__(self) -> None:
        self.structure: Structure | None = None
        self.key: int | None = None
        self.seen: dict[int, tuple[int, int, int, int]] = {}  # slot: number, spatial, temporal, switch_up

    def parse(self, data: bytes, before: Fields | None = None) -> tuple[int, Fields]:
        """What parse_dependency_descriptor should return and make of a FRAME."""
        out = dict(before or BLANK)
        try:
            return OK, self.read(data, out)
        except Refused as refused:
            return refused.args[0], out

    def read(self, data: bytes, out: Fields) -> Fields:
        if len(data) < 3:
            raise Refused(TRUNCATED)
        bits = Bits(data)
        out["start"], out["end"], name, number = bits.number(1), bits.number(1), bits.number(6), bits.number(16)
        flags = [bits.number(1) for _ in range(5)] if len(data) > 3 else [0] * 5
        structure = self.structure
        if flags[0]:
            if self.key is not None and 1 <= (self.key - number) % 65536 <= 512:
                return out | dict(keyframe=1, spatial=0, temporal=0, switch_up=1, discardable=0, inter_layer=0)
            self.structure = None
            structure = read_structure(bits)
        if structure is None or (name - structure.offset) % 64 >= len(structure.templates):
            raise Refused(NO_STRUCTURE)
        template = read_frame(bits, structure, structure.templates[(name - structure.offset) % 64], flags)
        if bits.over:
            raise Refused(TRUNCATED)
        self.structure = structure
        if flags[0]:
            self.key = number
            if structure.sizes and not out["width"]:
                out["width"], out["height"] = (min(side, 65535) for side in structure.sizes[-1])
        elif self.key is not None and 1024 < (number - self.key) % 65536 < 32768:
            self.key = None
        return out | self.meaning(structure, template, number)

    def meaning(self, structure: Structure, template: Template, number: int) -> Fields:
        references = [self.seen.get((number - fdiff) % 64) for fdiff in template.fdiffs]
        known = [
            r if r and r[0] == (number - fdiff) % 65536 else None
            for r, fdiff in zip(references, template.fdiffs, strict=True)
        ]
        switch = all(r is not None and (r[2] < template.temporal or (r[1] < template.spatial and r[3])) for r in known)
        for target, dti in enumerate(template.dtis):
            top = (
                max(t.temporal for t in structure.templates if t.dtis[target])
                if dti == 2 and any(t.dtis[target] for t in structure.templates)
                else 0
            )
            switch |= dti == 2 and top >= template.temporal
        self.seen[number % 64] = (number, template.spatial, template.temporal, int(switch))
        present = [dti for dti in template.dtis if dti]
        return {
            "spatial": template.spatial,
            "temporal": template.temporal,
            "keyframe": int(self.key is not None and (number - self.key) % 65536 == template.spatial),
            "switch_up": int(switch),
            "discardable": int(bool(present) and set(present) == {1}),
            "inter_layer": int(any(r is not None and r[1] < template.spatial for r in known)),
        }


def read_frame(bits: Bits, structure: Structure, template: Template, flags: list[int]) -> Template:
    """frame_dependency_definition(): the template as this frame changes it."""
    if flags[1]:
        bits.number(structure.targets)
    changes: dict[str, Any] = {}
    if flags[2]:
        changes["dtis"] = [bits.number(2) for _ in range(structure.targets)]
    if flags[3]:
        changes["fdiffs"] = []
        while size := bits.number(2):
            if len(changes["fdiffs"]) == 16:
                raise Refused(MALFORMED)
            changes["fdiffs"].append(bits.number(4 * size) + 1)
    if flags[4]:
        changes["chains"] = [bits.number(8) for _ in range(structure.chains)]
    return replace(template, **changes)
