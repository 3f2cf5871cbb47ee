"""Timings against peers; ``python -m benchmarks.speed`` runs them all and prints the table."""
