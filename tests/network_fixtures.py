"""Fixtures of the tests that run networks: one thread, and seeded Inception weights that are made once."""

import networks
import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The operations are too small to gain from several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A weights file of the Inception network, seeded and not trained, in torch's cache below a temporary folder."""
    return networks.seeded_inception_weights(tmp_path_factory.mktemp("torch"))
