"""Fixtures of the tests against other tools: one thread, seeded Inception weights, two folders of photographs."""

import pytest
from network_fixtures import one_thread, weights  # noqa: F401
from photographs import crops, write


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Two folders of photographs of one size, as the other tools require."""
    made = tmp_path_factory.mktemp("photographs")
    return [write(made / name, crops(seed, [(40, 50)] * n)) for name, seed, n in (("a", 0, 9), ("b", 1, 7))]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """As `folders` with 2 images each, for the Inception network."""
    made = tmp_path_factory.mktemp("pairs")
    return [write(made / name, crops(seed, [(40, 50)] * 2)) for name, seed in (("a", 2), ("b", 3))]
