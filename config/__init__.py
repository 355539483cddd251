"""The YAML configuration: its schema, its loader and its example files."""

from __future__ import annotations

from config.errors import ConfigError, Problem
from config.loader import load_config
from config.schema import Config, json_schema

__all__ = ["Config", "ConfigError", "Problem", "json_schema", "load_config"]
