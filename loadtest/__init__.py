"""Load tests and benchmarks of WHIP and WHEP servers."""
