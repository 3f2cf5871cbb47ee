"""`calculate_frechet_distance` and the functions of pytorch-fid, against pytorch-fid's own."""

import inspect
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from photographs import assert_same
from tolerance import FEATURE_ERROR, distance_error

import fidfast
from fidfast.compat import calculate_frechet_distance
from fidfast.compat import pytorch_fid as ours

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import pytorch_fid.fid_score
    import pytorch_fid.inception


def theirs(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytorch_fid.fid_score.calculate_frechet_distance(*arguments)


def statistics(rng, dim, n=None):
    rows = rng.normal(size=(n or 3 * dim, dim)) * np.linspace(0.5, 2, dim) + rng.normal(size=dim)
    return rows.mean(0), np.cov(rows, rowvar=False)


def test_signature():
    original = inspect.signature(pytorch_fid.fid_score.calculate_frechet_distance).parameters
    parameters = inspect.signature(calculate_frechet_distance).parameters
    assert [(p.name, p.default, p.kind) for p in parameters.values()] == [
        (p.name, p.default, p.kind) for p in original.values()
    ]


@pytest.mark.parametrize("dim", [2, 30])
def test_distance_equals_that_of_pytorch_fid(rng, dim):
    arguments = (*statistics(rng, dim), *statistics(rng, dim))
    distance = calculate_frechet_distance(*arguments)
    # sqrtm of a well-conditioned product: its errors are a few hundred eps of the traces, which are below 3 dim each.
    assert distance == pytest.approx(theirs(*arguments), rel=0, abs=500 * 2.2e-16 * 6 * dim)
    assert isinstance(distance, np.float64)
    assert calculate_frechet_distance(*arguments, eps=0.5) == distance


def test_distance_of_singular_covariances(rng):
    arguments = (*statistics(rng, 30, 12), *statistics(rng, 30, 9))
    # sqrtm takes roots of the eigenvalues of a singular product, whose error is eps: sqrt(eps) for each of 30 units,
    # times the largest deviations, which are below 5.
    assert calculate_frechet_distance(*arguments) == pytest.approx(theirs(*arguments), abs=30 * 1.5e-8 * 25)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.tolist(),
        lambda x: x.astype(np.float32),
        torch.from_numpy,
        lambda x: torch.from_numpy(x).requires_grad_(),
        lambda x: np.asfortranarray(x)[::1],
    ],
)
def test_accepted_forms(rng, convert):
    arguments = (*statistics(rng, 4), *statistics(rng, 4))
    # Rounding to float32 changes the distance by up to 6e-8 of the traces and of the squared means.
    assert calculate_frechet_distance(*map(convert, arguments)) == pytest.approx(theirs(*arguments), rel=1e-5)


def test_numbers_are_of_dim_1():
    assert calculate_frechet_distance(1, 4.0, 3.0, 1) == pytest.approx(2**2 + (2 - 1) ** 2)
    assert calculate_frechet_distance([0], [[2.0]], [0], [[2.0]]) == 0.0


def test_shapes_that_differ(rng):
    one, two = statistics(rng, 3), statistics(rng, 4)
    for arguments, message in (
        ((*one, *two), "Training and test mean vectors have different lengths"),
        ((*one, one[0], two[1]), "Training and test covariances have different dimensions"),
    ):
        for function in (calculate_frechet_distance, theirs):
            with pytest.raises(AssertionError, match=message):
                function(*arguments)


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (np.diag([1.0, np.nan]), "mu2, sigma2: sigma holds NaN"),
        (np.diag([1.0, -1.0]), "mu2, sigma2: .*positive semidefinite"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "mu2, sigma2: .*symmetric"),
    ],
)
def test_not_a_covariance(sigma, message):
    with pytest.raises(ValueError, match=message):
        calculate_frechet_distance(np.zeros(2), np.eye(2), np.zeros(2), sigma)
    with pytest.raises(TypeError, match="mu1 must hold real numbers, got dtype complex128"):
        calculate_frechet_distance(np.zeros(2) * 1j, np.eye(2), np.zeros(2), np.eye(2))


def test_the_next_step_exists(rng):
    """The message names a call that accepts the covariance, not an argument that the function lacks."""
    sigma = np.diag([1.0, -1e-4])
    with pytest.raises(ValueError, match="mu2, sigma2: sigma is not positive semidefinite") as raised:
        calculate_frechet_distance(np.zeros(2), np.eye(2), np.ones(2), sigma)
    (call,) = re.findall(r"fidfast.fid with (fidfast\.GaussianStats\(mu2, sigma2, .*?\)) accepts it", str(raised.value))
    stats = eval(call, {"fidfast": fidfast, "mu2": np.ones(2), "sigma2": sigma})
    # 2 of the means, and 1 of an eigenvalue without a pair; the trace contains the negative eigenvalue.
    assert fidfast.fid(fidfast.GaussianStats(np.zeros(2), np.eye(2)), stats) == pytest.approx(3 - 1e-4, abs=1e-12)


def test_scipy_without_disp(monkeypatch, rng):
    """SciPy 1.18 rejects the argument `disp`, which pytorch-fid passes."""
    import scipy.linalg

    sqrtm = scipy.linalg.sqrtm
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda product: sqrtm(product))
    arguments = (*statistics(rng, 4), *statistics(rng, 4))
    with pytest.raises(TypeError, match="disp"):
        theirs(*arguments)
    assert calculate_frechet_distance(*arguments) > 0


def test_import_needs_no_torch():
    code = "import sys, fidfast.compat; print('torch' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.split() == ["False", "False"]


# The functions of paths ---------------------------------------------------------------------------------------------


@pytest.fixture
def their_stats(monkeypatch, pairs, weights):
    """Statistics of the folders by pytorch-fid; its ``calculate_fid_given_paths`` is their distance."""
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    network = pytorch_fid.inception.InceptionV3([3])
    compute = pytorch_fid.fid_score.compute_statistics_of_path
    return [compute(str(folder), network, 2, 2048, "cpu", 0) for folder in pairs]


@pytest.mark.slow
def test_fid_of_a_folder_and_a_file(pairs, their_stats, tmp_path, capsys):
    np.savez(tmp_path / "b.npz", mu=their_stats[1][0], sigma=their_stats[1][1])
    with pytest.warns(UserWarning, match="is not an FID"):
        ours.main(["--device", "cpu", "--num-workers", "0", str(pairs[0]), str(tmp_path / "b.npz")])
    # Not by their sqrtm, which takes minutes in 2,048 dims: the test above compares the two functions.
    expected = calculate_frechet_distance(*their_stats[0], *their_stats[1])
    printed = float(capsys.readouterr().out.removeprefix("FID:  "))
    assert printed == pytest.approx(expected, rel=0, abs=distance_error(expected, their_stats[0]))


@pytest.mark.slow
def test_statistics_of_a_folder(pairs, their_stats, tmp_path):
    arguments = ["--device", "cpu", "--num-workers", "0", "--save-stats", str(pairs[1]), str(tmp_path / "b.npz")]
    with pytest.warns(UserWarning, match="is not an FID"):
        ours.main(arguments)
    assert_same(fidfast.GaussianStats.load(tmp_path / "b.npz"), their_stats[1], FEATURE_ERROR)
    with pytest.raises(FileExistsError, match="exists"):
        ours.main(arguments)


def test_folders_in_a_folder_are_not_read(pairs):
    with pytest.raises(ValueError, match="has no images; pytorch-fid does not read the folders in a folder"):
        ours.calculate_fid_given_paths([pairs[0].parent, pairs[1]])
    with pytest.raises(ValueError, match="dims must be 2048"):
        ours.calculate_fid_given_paths(list(pairs), dims=64)
    with pytest.raises(ValueError, match="paths must be two paths, got 1"):
        ours.calculate_fid_given_paths(["x"])


def test_conventions(monkeypatch, pairs):
    """Of pytorch-fid, which tests/torch/test_like.py compares with pytorch-fid itself."""

    def load(name, *, like):
        raise ValueError(f"{name} like {like}")

    monkeypatch.setattr("fidfast.torch._images.checks.load_extractor", load)
    with pytest.raises(ValueError, match="inception like pytorch-fid"):
        ours.calculate_fid_given_paths(list(pairs))


def test_statistics_of_both_sides(tmp_path, rng):
    stats = [fidfast.GaussianStats(*statistics(rng, 5)) for _ in range(2)]
    for i in range(2):
        stats[i].save(tmp_path / f"{i}.npz")
    distance = ours.calculate_fid_given_paths([tmp_path / "0.npz", tmp_path / "1.npz"])
    assert distance == fidfast.fid(*stats)
