"""The scripts for molecules and jets, against the packages of these fields."""

import importlib.util
import itertools
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

import fidfast

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *arguments):
    """The lines that a script prints, and the number in the first."""
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # the matrices are small
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return lines, float(re.fullmatch(r"F[CP]D (\S+)", lines[0]).group(1))


@pytest.mark.slow
def test_molecules(tmp_path):
    """Molecules of the National Cancer Institute, which rdkit contains."""
    import fcd
    import rdkit

    lines = (Path(rdkit.__file__).parent / "Data" / "NCI" / "first_5K.smi").read_text().splitlines()
    files = [tmp_path / "samples.smi", tmp_path / "reference.smi"]
    files[0].write_text("\n".join([*lines[:80], "not-a-molecule 7"]))
    files[1].write_text("\n".join(lines[2000:2070]))
    printed, distance = run("molecules_fcd.py", *files)
    assert re.match(r"without bias: \S+", printed[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smiles = [fcd.canonical_smiles([line.split()[0] for line in part]) for part in (lines[:80], lines[2000:2070])]
        expected = fcd.get_fcd(*([one for one in side if one is not None] for side in smiles))
    # Their sqrtm of a singular product: the root of eps for each of 512 eigenvalues, of traces of about 30 each; the
    # network's float32 means change the distance by less.
    assert distance == pytest.approx(expected, abs=512 * 1.5e-8 * 30)


# Jets ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jets_fpd():
    spec = importlib.util.spec_from_file_location("jets_fpd", EXAMPLES / "jets_fpd.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def jets(rng, n, width, particles=6):
    """(n, particles, 3) eta, phi and pt."""
    angles = rng.normal(scale=width, size=(n, particles, 2))
    angles[:, :, 1] += np.pi  # phi wraps around
    pt = rng.dirichlet(np.full(particles, 0.5), n) * rng.uniform(0.8, 1.2, (n, 1))
    return np.concatenate([angles, pt[:, :, None]], axis=2)


def test_polynomials_are_sums_over_particles(jets_fpd, rng):
    """Komiske, Metodiev & Thaler (2018), equation 5, for each graph with at most three edges."""
    particles = jets(rng, 2, 0.3, particles=3)
    found = jets_fpd.energy_flow_polynomials(particles, max_edges=3)
    connected = [graph for edges in (1, 2, 3) for graph in jets_fpd.connected_graphs(edges)]
    parts = [
        [part]
        for number in (1, 2, 3)
        for part in itertools.combinations_with_replacement(connected, number)
        if sum(map(len, part)) <= 3
    ]
    assert found.shape == (2, 1 + len(parts)) == (2, 13)
    for jet, row in zip(particles, found, strict=True):
        eta, phi, pt = jet.T

        def distance(i, j, eta=eta, phi=phi):
            turn = abs(phi[i] - phi[j])
            return np.hypot(eta[i] - eta[j], min(turn, 2 * np.pi - turn))

        def polynomial(graph, pt=pt, distance=distance):
            vertices = 1 + max(map(max, graph))
            return sum(
                np.prod([pt[i] for i in chosen]) * np.prod([distance(chosen[a], chosen[b]) for a, b in graph])
                for chosen in itertools.product(range(3), repeat=vertices)
            )

        expected = [pt.sum(), *(np.prod([polynomial(graph) for graph in part]) for (part,) in parts)]
        # Sums of at most 81 products of at most 7 numbers.
        np.testing.assert_allclose(row, expected, rtol=90 * 2.2e-16)


def test_number_of_polynomials(jets_fpd, rng):
    """Jetnet's set has 36; with jetnet 0.2.5 the columns were equal to 1e-15, in another order."""
    assert [len(jets_fpd.connected_graphs(edges)) for edges in (1, 2, 3, 4)] == [1, 2, 5, 12]
    assert jets_fpd.energy_flow_polynomials(jets(rng, 2, 0.1)).shape == (2, 36)


def jetnet_fpd(reference, samples, sizes, batches, rng):
    """The value of ``jetnet.evaluation.fpd`` and its error: a line through distances of random parts, at 1/n = 0."""
    values = []
    for size in sizes:
        parts = ((rows[rng.choice(len(rows), size)] for rows in (reference, samples)) for _ in range(batches))
        values.append(np.mean([fidfast.fid(*part) for part in parts]))
    (_, intercept), covariance = np.polyfit(1 / np.array(sizes), values, 1, cov=True)
    return intercept, np.sqrt(covariance[1, 1])


def test_jets(jets_fpd, rng, tmp_path):
    particles = [jets(rng, 400, 0.1), jets(rng, 400, 0.12)]
    paths = [tmp_path / "samples.npy", tmp_path / "reference.npy"]
    for path, part in zip(paths, particles, strict=True):
        np.save(path, part)
    printed, distance = run("jets_fpd.py", *paths)
    samples, reference = map(jets_fpd.energy_flow_polynomials, particles)
    largest = np.abs(reference).max(axis=0)
    assert distance == pytest.approx(fidfast.fid(samples / largest, reference / largest), rel=1e-7)
    assert printed[1] == f"without bias: {fidfast.estimate(samples / largest, reference / largest)}"
    # jetnet draws with replacement, so its line ends at the distance of all rows, with their bias.
    with threadpoolctl.threadpool_limits(1):
        value, error = jetnet_fpd(reference / largest, samples / largest, [100, 120, 150, 200, 300, 400], 30, rng)
    assert value == pytest.approx(distance, abs=4 * error)
    assert error < 0.2 * distance
