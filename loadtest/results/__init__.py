"""What a load test found: figures, the results file, and the ways to show and to compare it."""
