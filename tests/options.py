"""The pytest options ``--all`` and ``--fuzz``, the marks of slow tests, and Hypothesis' settings.

``@pytest.mark.grid(keep=8)``
    Of the cases of a parametrised test, 8 run by default, chosen by `grids.share`.
``@pytest.mark.slow``
    The test runs with ``--all`` only.

A test that loops over cases itself takes the fixture `share`: ``for case in share(cases, keep=8)``.

``tests/conftest.py`` imports these hooks, so that they work for ``pytest``, ``pytest tests/cuda`` and any other
selection below ``tests``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import grids
import pytest
from hypothesis import settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run every case of the slow grids, and the slow tests")
    parser.addoption(
        "--fuzz", type=int, metavar="N", help="N calls of each function, N damaged files, N rounding bounds"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "grid(keep): without --all, run a seeded choice of this many cases")
    config.addinivalue_line("markers", "slow: run with --all only")
    examples = 60 if config.getoption("--all") else 20
    settings.register_profile("laws", deadline=None, max_examples=examples, derandomize=True)
    settings.load_profile("laws")


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    cases: dict[str, list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("grid") is not None:
            cases[item.nodeid.partition("[")[0]].append(item)
    left_out = {item for item in items if item.get_closest_marker("slow") is not None}
    for test, grid in cases.items():
        mark = grid[0].get_closest_marker("grid")
        assert mark is not None
        parameters = [{name: id(value) for name, value in item.callspec.params.items()} for item in grid]
        kept = grids.share(grid, mark.kwargs["keep"], test, parameters)
        left_out.update(set(grid).difference(kept))
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def share(request: pytest.FixtureRequest) -> Callable[..., list]:
    """`grids.share`, seeded by the test's id; with ``--all`` every case."""

    def choose(cases: Iterable, keep: int) -> list:
        return list(cases) if request.config.getoption("--all") else grids.share(cases, keep, request.node.nodeid)

    return choose
