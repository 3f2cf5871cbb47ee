"""Fixtures of the torch tests."""

from network_fixtures import one_thread, weights  # noqa: F401
