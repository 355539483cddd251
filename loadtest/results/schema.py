"""The results of one load test, as dataclasses and as JSON: what runs write, and what reports and comparisons read.

The file is versioned. Reading is strict, because figures that are compared by machines must not be guessed: a wrong
type, an unknown key or a list of the wrong length is a ValueError that names the file and the key. Writing is not: what
a run has measured always gets its file, so values that JSON doesn't know (NaN, infinities) become null.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema

from loadtest.results.figures import FIGURES

FAMILY, VERSION = "weir.loadtest.results", 1
SCHEMA: Literal["weir.loadtest.results/1"] = "weir.loadtest.results/1"

Verdict = Literal["passed", "failed", "no verdict", "interrupted"]


def _known(name: str) -> str:
    if name not in FIGURES:
        raise ValueError(f"{name!r} is no figure")
    return name


def _as_long_as_time(series: dict[str, list[float | None]]) -> dict[str, list[float | None]]:
    time = series.get("time")
    if series and time is None:
        raise ValueError("time is missing")
    for name, values in series.items():
        if time is not None and len(values) != len(time):
            raise ValueError(f"{name} has {len(values)} values for {len(time)} times")
    if any(moment is None for moment in time or []):
        raise ValueError("time has a null")
    return series


FigureName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": sorted(FIGURES)}, mode="validation")
]
Figures = dict[FigureName, float | None]
Series = Annotated[dict[str, list[float | None]], AfterValidator(_as_long_as_time)]
Count = Annotated[int, Field(ge=0)]
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(kw_only=True)
class Scenario:
    """What was run: its name, the YAML as text, and the seed of everything random."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    text: str
    seed: int


@dataclass(kw_only=True)
class Target:
    """What was loaded: its address, the driver that spoke to it, and the process when it was a local one."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    url: str
    driver: str
    pid: int | None = None


@dataclass(kw_only=True)
class Expectation:
    """One `expect:` limit as written, the value it was held against, and whether it held (None: no value)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    figure: str
    limit: str
    value: float | None
    held: bool | None


@dataclass(kw_only=True)
class Distribution:
    """Counts between edges: counts[i] values lie above bounds[i - 1] and up to bounds[i], in `unit`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    unit: str
    bounds: list[float]
    counts: list[Count]


def _even(distribution: Distribution) -> Distribution:
    if len(distribution.bounds) != len(distribution.counts):
        raise ValueError(f"{len(distribution.counts)} counts for {len(distribution.bounds)} bounds")
    if any(b <= a for a, b in zip(distribution.bounds, distribution.bounds[1:], strict=False)):
        raise ValueError("bounds do not rise")
    return distribution


@dataclass(kw_only=True)
class Fault:
    """Something that went wrong, and who saw it; `count` times the same."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    client: str
    group: str
    room: str
    what: str
    count: Count = 1


@dataclass(kw_only=True)
class SearchStep:
    """One size that a search for the limit tried."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    value: Count
    verdict: Verdict
    figures: Figures = field(default_factory=dict)


@dataclass(kw_only=True)
class Search:
    """What a search for the limit found: `held` is the largest size that kept all limits, `broke` the smallest that
    did not, `blocked` the smallest at which the load test itself was in the way; `first` is what broke at `broke`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    vary: Literal["subscribers", "publishers", "rooms"]
    held: Count | None
    broke: Count | None
    blocked: Count | None = None
    first: list[Expectation] = field(default_factory=list)
    why: str = ""  # what ended it, if it was not a limit that broke
    steps: list[SearchStep] = field(default_factory=list)


@dataclass(kw_only=True)
class Results:
    """All that a run found. See docs/LOADTEST.md for the figures, `results_schema()` for the JSON."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    schema: Literal["weir.loadtest.results/1"] = SCHEMA
    scenario: Scenario
    target: Target
    machine: dict[str, str | int | float | None]  # "weir" is the tool's version
    command: str
    started: str  # ISO 8601
    duration: float  # s
    verdict: Verdict
    broken_off: str = ""  # why the run ended before its time
    notes: list[str] = field(default_factory=list)  # what a reader must know
    figures: Figures = field(default_factory=dict)
    groups: dict[str, Figures] = field(default_factory=dict)
    expect: list[Expectation] = field(default_factory=list)
    distributions: dict[str, Annotated[Distribution, AfterValidator(_even)]] = field(default_factory=dict)
    series: Series = field(default_factory=dict)  # "time" [s] and lists as long as it, null where unknown
    faults: list[Fault] = field(default_factory=list)
    repetitions: list[Figures] = field(default_factory=list)
    search: Search | None = None  # of a run with --find-limit; the figures are those of `held`


_ADAPTER = TypeAdapter(Results)


def to_json(results: Results) -> str:
    """The results file's text. Not-a-number becomes null."""
    return json.dumps(_plain(asdict(results)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str | bytes, file: str = "results") -> Results:
    """Results from a file's text; `file` is its name in messages. ValueError names the file and the first wrong key."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from None
    _check_version(raw, file)
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{file}: {_first(error)}") from None


def read_results(path: Path | str) -> Results:
    """Results from a file. OSError when it can't be read, ValueError when it is wrong."""
    return from_json(Path(path).read_bytes(), str(path))


def write_results(results: Results, path: Path | str) -> None:
    """Write the results file whole or not at all, so that a crash leaves no half file behind."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(to_json(results), encoding="utf-8")
    part.replace(path)


def results_schema() -> dict[str, Any]:
    """The JSON Schema of a results file (draft 2020-12)."""
    found = _ADAPTER.json_schema()
    found["required"] = ["schema", *found["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **found}


def _check_version(raw: Any, file: str) -> None:
    named = raw.get("schema") if isinstance(raw, dict) else None
    if named == SCHEMA:
        return
    if named is None:
        raise ValueError(f"{file}: schema is missing; a results file says {SCHEMA!r} there")
    family, _, number = str(named).partition("/")
    if family == FAMILY and number.isdecimal() and int(number[:9]) > VERSION:
        raise ValueError(f"{file}: schema is {named!r}, from a newer version of this tool, which reads {SCHEMA!r}")
    raise ValueError(f"{file}: schema is {str(named)[:100]!r}, not {SCHEMA!r}")


def _first(error: ValidationError) -> str:
    """The first complaint as a sentence: key, what is wrong, how many more there are."""
    complaints = error.errors(include_url=False, include_context=False)
    key = ".".join(str(part) for part in complaints[0]["loc"] if part != "[key]")
    message = complaints[0]["msg"].removeprefix("Value error, ")
    if complaints[0]["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        message = "unknown key"
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    return f"{key}: {message[0].lower()}{message[1:]}{more}"


def _plain(value: Any) -> Any:
    """What JSON knows: numpy's numbers as Python's, NaN and infinities as None, text that UTF-8 can hold."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
