"""The node: control plane and packet engine."""
