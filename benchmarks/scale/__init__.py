"""How time, memory and error grow with samples, workers and parts: ``python -m benchmarks.scale``."""
