"""The report of every metric computable from features, as numbers, text and HTML page."""

from fidfast._report.build import report
from fidfast._report.contents import HarmfulSample, ReferenceSample, Trimmed
from fidfast._report.result import Report

__all__ = ["HarmfulSample", "ReferenceSample", "Report", "Trimmed", "report"]
