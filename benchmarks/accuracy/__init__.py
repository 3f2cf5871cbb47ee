"""Errors against exact answers; ``python -m benchmarks.accuracy`` prints them beside the peers'."""
