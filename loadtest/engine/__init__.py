"""The client engine: one native thread that is all clients of a run."""
