"""Time and peak memory of merging many files of moments, in a separate process."""

from __future__ import annotations
