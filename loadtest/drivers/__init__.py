"""How sessions are made and ended at a server: one driver per signalling protocol."""
