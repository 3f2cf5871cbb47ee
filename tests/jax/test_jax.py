"""fidfast.jax: processes, checkpoints, arrays."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import fidfast

jax = pytest.importorskip("jax")

import fidfast.jax  # noqa: E402

SCRIPT = Path(__file__).parent / "processes.py"


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)])
def test_processes_equal_one(size):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(process), str(size), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(size)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=200)
            assert process.returncode == 0, output
            assert output.endswith("done\n"), output
    finally:
        for process in processes:
            process.kill()


def test_one_process_keeps_its_moments(rng):
    moments = fidfast.Moments.from_features(rng.standard_normal((20, 3)))
    before = moments.state()
    fidfast.jax.all_reduce(moments)
    assert all(np.array_equal(before[key], value) for key, value in moments.state().items())
    with pytest.raises(TypeError, match=r"moments must be (a )?Moments"):
        fidfast.jax.all_reduce("moments.npz")


@pytest.mark.parametrize("n", [0, 1, 7, 2000])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_are_lossless(rng, n, blocks, dtype):
    moments = fidfast.Moments(6, blocks=blocks, extractor="net/pil-bicubic", precision="float64")
    moments.update(rng.standard_normal((n, 6)).astype(dtype))
    array = fidfast.jax.to_array(moments)
    assert len(array) == len(fidfast.jax.to_array(fidfast.Moments(6, blocks=blocks)))
    back = fidfast.jax.from_array(jax.numpy.asarray(array))
    assert back == moments
    rows = rng.standard_normal((30, 6))
    for each in (back, moments):  # the rest of the run is the same too
        each.update(rows)
    assert back == moments


def test_a_checkpoint_of_orbax_continues_the_run(rng, tmp_path):
    checkpoints = pytest.importorskip("orbax.checkpoint")
    moments = fidfast.Moments(6, extractor="net")
    moments.update(jax.numpy.asarray(rng.standard_normal((3000, 6)), jax.numpy.float32))
    tree = {"params": {"w": jax.numpy.ones(3)}, "moments": fidfast.jax.to_array(moments)}
    with checkpoints.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", tree)
        checkpointer.wait_until_finished()
        found = checkpointer.restore(tmp_path / "checkpoint", tree)
    assert fidfast.jax.from_array(found["moments"]) == moments


def test_arrays_that_are_not_from_to_array(rng):
    array = fidfast.jax.to_array(fidfast.Moments.from_features(rng.standard_normal((20, 3))))
    for other, kind, message in (
        (array[:-1], ValueError, f"has {len(array) - 1} bytes, which is not a multiple of 8"),
        (array[:-8], ValueError, "numbers for dim 3 and 1 blocks"),
        (array.view(np.float64), TypeError, r"must be uint8 \(k,\) from to_array, got float64"),
        (array[None], TypeError, r"got uint8 of shape \(1, "),
        (np.zeros(0, np.uint8), ValueError, "0 numbers is damaged"),
        (np.zeros_like(array), ValueError, "for dim 0 and 0 blocks"),
        (np.full_like(array, 255), ValueError, "is damaged"),
    ):
        with pytest.raises(kind, match=f"array.*{message}"):
            fidfast.jax.from_array(other)


def test_arrays_on_several_devices_and_traced_arrays():
    code = """
        import jax, numpy as np, fidfast
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        rows = jax.numpy.arange(80.0).reshape(16, 5) ** 1.5
        mesh = Mesh(np.array(jax.devices()), ("x",))
        assert mesh.size == 4
        expected = fidfast.Moments.from_features(rows)
        for spec in (PartitionSpec("x"), PartitionSpec()):
            sharded = jax.device_put(rows, NamedSharding(mesh, spec))
            assert fidfast.Moments.from_features(sharded) == expected
            assert fidfast.fid(sharded, rows) == 0
            assert fidfast.kid(sharded, rows + 1) == fidfast.kid(rows, rows + 1)
            assert fidfast.Moments.from_features(sharded.astype("bfloat16")).num_samples == 16
        message = ""
        try:
            jax.jit(lambda rows: fidfast.Moments(5).update(rows))(rows)
        except TypeError as error:
            message = str(error)
        assert "outside of jit" in message, message
    """
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
