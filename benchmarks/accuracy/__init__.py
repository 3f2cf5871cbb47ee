"""Errors compared with exact results: ``python -m benchmarks.accuracy``."""
