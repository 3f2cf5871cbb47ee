"""A cluster of three Ray nodes with one CPU each, a head and two workers, which all tests of this folder share."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import psutil
import pytest
from rows_of_ray import LIMIT, STORE, WORKER

#: Ray reads these when it is imported, and its processes inherit them.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


#: A lost node is noticed after a second, not after 20.
QUICK_CHECKS = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}


def add_node(cluster, **options):
    """Start a node, without waiting for it."""
    folder = os.environ["RAY_TMPDIR"]
    cluster.add_node(
        num_cpus=1, object_store_memory=STORE, include_dashboard=False, temp_dir=folder, wait=False, **options
    )


@pytest.fixture(scope="session")
def cluster():
    """`ray.cluster_utils.Cluster`, to which this process is connected."""
    here = str(Path(__file__).parent)  # of the module that the workers import
    environment = pytest.MonkeyPatch()
    for name, value in {**ENVIRONMENT, "PYTHONPATH": here}.items():
        environment.setenv(name, value, prepend=os.pathsep if name == "PYTHONPATH" else None)
    folder = tempfile.mkdtemp(prefix="ray")  # the paths of sockets are limited to 107 characters
    environment.setenv("RAY_TMPDIR", folder)  # the address of the cluster is written to the folder "ray" in it
    os.mkdir(os.path.join(folder, "ray"))
    pytest.importorskip("ray.data", reason="needs ray[data]")
    import ray
    from ray.cluster_utils import Cluster

    before, on_terminate = set(psutil.Process().children(recursive=True)), signal.getsignal(signal.SIGTERM)
    cluster = Cluster()
    try:
        add_node(cluster, _system_config=QUICK_CHECKS)
        for _ in range(2):
            add_node(cluster, resources={WORKER: 1})
        with pytest.MonkeyPatch.context() as patch:  # Ray adds this folder to the path of the workers, before packages
            patch.chdir(folder)
            ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
        cluster.wait_for_nodes(timeout=LIMIT)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        environment.undo()
        signal.signal(signal.SIGTERM, on_terminate)  # Ray has its own handler
        _, alive = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=LIMIT)
        assert not alive


@pytest.fixture
def lose(cluster):
    """A function that kills the node with this id; after the test, another takes its place."""
    killed = []

    def lose(node_id):
        node = next(node for node in cluster.worker_nodes if node.node_id == node_id)
        killed.append(node)
        cluster.remove_node(node, allow_graceful=False)

    yield lose
    for _ in killed:
        add_node(cluster, resources={WORKER: 1})
    cluster.wait_for_nodes(timeout=LIMIT)


@pytest.fixture
def context(cluster):
    """Ray Data's options, which are restored after the test."""
    import ray.data

    context = ray.data.DataContext.get_current()
    before = {"max_errored_blocks": context.max_errored_blocks}
    yield context
    for name, value in before.items():
        setattr(context, name, value)


#: Warnings of Ray's own modules, such as those about its options, and of the files of its processes.
OF_RAY = (
    r"ignore:::ray[.]",
    r"ignore:Exception ignored in. <_io.FileIO name='/dev/null'",
    r"ignore:unclosed file <_io.TextIOWrapper name='.*/ray-data/:ResourceWarning",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(*OF_RAY))
