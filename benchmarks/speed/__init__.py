"""Timings compared with other tools: ``python -m benchmarks.speed``."""
