"""Load-test scenarios: what is joined, sent, disturbed and expected, read strictly from YAML."""

from __future__ import annotations

from loadtest.scenario.expect import Limit, LimitError, evaluate, parse_limit
from loadtest.scenario.load import as_text, find, load_scenario, shipped
from loadtest.scenario.schema import Scenario, scenario_schema
from loadtest.scenario.short import shorten

__all__ = [
    "Limit",
    "LimitError",
    "Scenario",
    "as_text",
    "evaluate",
    "find",
    "load_scenario",
    "parse_limit",
    "scenario_schema",
    "shipped",
    "shorten",
]
