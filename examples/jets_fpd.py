"""Fréchet physics distance (FPD) of two ``.npy`` files of jets (n, particles, 3), each particle with eta, phi and pt.

python jets_fpd.py samples.npy reference.npy

Kansal et al., "Evaluating generative models in high energy physics" (2023): 36 energy flow polynomials, those of all
multigraphs with at most 4 edges (Komiske, Metodiev & Thaler, 2018), divided by their largest value in the reference.
jetnet extrapolates to what the first line prints; the second has no bias, and an error bar.
"""

import argparse
import itertools
import string

import numpy as np

import fidfast

Graph = tuple[tuple[int, int], ...]


def connected_graphs(num_edges: int) -> list[Graph]:
    """The connected multigraphs with this number of edges, one of each isomorphism class."""
    vertices = range(num_edges + 1)
    graphs: set[Graph] = set()
    for edges in itertools.combinations_with_replacement(list(itertools.combinations(vertices, 2)), num_edges):
        reached = {edges[0][0]}
        for _ in edges:
            reached.update(vertex for edge in edges if reached.intersection(edge) for vertex in edge)
        if reached == {vertex for edge in edges for vertex in edge}:
            names = sorted(reached)
            numbered = [(names.index(a), names.index(b)) for a, b in edges]
            graphs.add(
                min(
                    tuple(sorted(tuple(sorted((order[a], order[b]))) for a, b in numbered))
                    for order in itertools.permutations(range(len(names)))
                )
            )
    return sorted(graphs)


def energy_flow_polynomials(jets: np.ndarray, max_edges: int = 4) -> np.ndarray:
    """(n, 36) float64: for each graph, the sum over particles of products of pt (vertices) and distances (edges)."""
    eta, phi, pt = np.moveaxis(np.asarray(jets, np.float64), 2, 0)
    turn = phi[:, :, None] - phi[:, None, :]
    distances = np.hypot(eta[:, :, None] - eta[:, None, :], (turn + np.pi) % (2 * np.pi) - np.pi)
    connected = {}
    for num_edges in range(1, max_edges + 1):
        for graph in connected_graphs(num_edges):
            letters = string.ascii_lowercase
            vertices = sorted({vertex for edge in graph for vertex in edge})
            terms = [f"z{letters[v]}" for v in vertices] + [f"z{letters[a]}{letters[b]}" for a, b in graph]
            arrays = [pt] * len(vertices) + [distances] * len(graph)
            connected[graph] = np.einsum(",".join(terms) + "->z", *arrays, optimize="greedy")
    columns = [pt.sum(axis=1)]  # a vertex without an edge
    for number in range(1, max_edges + 1):  # of connected parts
        for parts in itertools.combinations_with_replacement(connected, number):
            if sum(map(len, parts)) <= max_edges:
                columns.append(np.prod([connected[part] for part in parts], axis=0))
    return np.stack(columns, axis=1)


def features(path: str) -> np.ndarray:
    """The polynomials of a file, 100 jets at a time."""
    try:
        jets = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(f"{path} is not an .npy file of numbers") from error
    if jets.ndim != 3 or len(jets) < 2 or jets.shape[2] != 3:
        raise ValueError(
            f"{path} has shape {jets.shape}, expected at least 2 jets (n, particles, 3) of eta, phi and pt"
        )
    return np.concatenate([energy_flow_polynomials(jets[first : first + 100]) for first in range(0, len(jets), 100)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", help="generated jets")
    parser.add_argument("reference", help="real jets")
    given = parser.parse_args()
    samples, reference = features(given.samples), features(given.reference)
    largest = np.abs(reference).max(axis=0)
    largest[largest == 0] = 1.0
    samples, reference = samples / largest, reference / largest
    print(f"FPD {fidfast.fid(samples, reference):.8g}")
    print(f"without bias: {fidfast.estimate(samples, reference)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        raise SystemExit(f"jets_fpd.py: {error}") from None
