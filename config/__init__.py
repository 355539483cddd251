"""The YAML configuration: its schema, its loader and its example files."""
