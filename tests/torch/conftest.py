"""Fixtures of the torch tests: seeded Inception weights, made once, and one thread for many small operations."""

import networks
import pytest
import torch


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A weights file of the Inception network, seeded and not trained, in torch's cache below a temporary folder."""
    return networks.seeded_inception_weights(tmp_path_factory.mktemp("torch"))


@pytest.fixture
def one_thread():
    """Small operations do not gain from several threads, which would wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
