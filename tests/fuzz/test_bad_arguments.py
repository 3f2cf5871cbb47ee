"""One bad value for each argument of each public callable: an error that names the argument."""

import socket
import zlib

import numpy as np
import pytest
from fuzz_calls import call, good_arguments
from fuzz_table import EXCLUDED, paths, targets
from fuzz_values import make_junk, no_network

TARGETS = {name: target for name, target in targets().items() if target.arguments}

#: Arguments that an error calls by another name.
NAMES = {
    "ignite.FrechetDistance.update.output": "images",
    "ignite.FrechetDistance.extractor": "extractor",
}

#: Targets whose required arguments alone give no result, or take long.
NO_RESULT = {
    "Report.write_html": "half a second",
    "DemoResult.save_plots": "half a second",
    "FrechetInceptionDistance.forward": "the batch alone has images of one kind",
    "Moments.merge": "numbers of blocks may differ",
    "Moments.unmerge": "numbers of blocks may differ",
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return paths(tmp_path_factory.mktemp("files"))


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", no_network)


def test_excluded_names_exist():
    functions = {"demo", "all_reduce", "calculate_metrics", "compute_kid", "main", "save_fid_stats"}
    assert {name.split(".")[0] for name in EXCLUDED} <= {name.split(".")[0] for name in targets()} | functions
    assert len(TARGETS) > 80


@pytest.mark.parametrize("name", TARGETS)
def test_one_bad_value_for_each_argument(name, kinds, share):
    target = TARGETS[name]
    if name not in NO_RESULT:
        good = call(target, good_arguments(target, kinds, np.random.default_rng(0)), np.random.default_rng(0))
        assert good.kind == "result", good.text
    for argument, kind in target.arguments.items():
        kind = kinds.get(f"{name}.{argument}", kind)
        first = zlib.crc32(f"{name}.{argument}".encode()) % max(1, len(kind.refused))
        for junk in share([*kind.refused[first:], *kind.refused[:first]], keep=2):
            rng = np.random.default_rng(0)
            values = {**good_arguments(target, kinds, rng), argument: make_junk(junk, rng)}
            outcome = call(target, values, rng)
            described = f"{name}({argument}={junk}): {outcome.text or outcome.kind}"
            assert outcome.kind == "error", described
            assert outcome.text.split(":")[0] in ("TypeError", "ValueError", "BrokenImageError"), described
            assert NAMES.get(f"{name}.{argument}", argument) in outcome.text, described
