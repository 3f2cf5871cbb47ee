"""Progress, interrupts and resumed runs."""

import pytest
import torch
from photographs import crops, write

import fidfast
import fidfast.torch as ft
from fidfast import _progress
from fidfast._cli import commands as cli
from fidfast.torch._extractors import named as named_extractors
from fidfast.torch._images import extraction_pass

NAME = ("--extractor", "efficientnet-lite0")


class Colours(torch.nn.Module):
    """Stands for a network that `load_extractor` loads by name."""

    def forward(self, images):
        return images.mean(dim=(2, 3))


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", 0.0)
    extractor = ft.Extractor(Colours(), name="efficientnet-lite0", input_size=(8, 8), reproducible=True)
    monkeypatch.setattr(named_extractors, "efficientnet_lite0", lambda: extractor)
    for seed, name in enumerate(("a", "b\x1b[31m")):
        write(tmp_path / name, crops(seed, [(8, 8)] * 10))
    return tmp_path


def run(capsys, *arguments):
    code = cli.main([*arguments, *NAME, "--batch-size", "2"])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


@pytest.fixture
def interrupt(monkeypatch):
    """Makes the network raise an error at its n-th call."""

    def at(n, error=KeyboardInterrupt):
        calls = []
        original = extraction_pass.output_of

        def stop(self, images):
            calls.append(len(images))
            if len(calls) == n:
                raise error
            return original(self, images)

        monkeypatch.setattr(extraction_pass, "output_of", stop)

    return at


def test_a_log_names_the_side_and_its_folder(capsys):
    _, _, lines = run(capsys, "fid", "a", "b\x1b[31m")
    labels = [line.partition(":")[0] for line in lines]
    assert labels == ["samples a"] * 5 + [r"reference b\x1b[31m"] * 5
    assert lines[4].startswith("samples a: 10 of 10 images (100 %)")
    assert run(capsys, "fid", "a", "b\x1b[31m", "--quiet")[2] == []
    _, _, lines = run(capsys, "stats", "a", "out", "--no-cache")
    assert lines[0].startswith("a: 2 of 10 images (20 %)")


def test_a_bar_says_that_a_result_is_from_the_cache(capsys, monkeypatch):
    for seen in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        _, _, lines = run(capsys, "fid", "a", "b\x1b[31m")
        assert any("samples a (from the cache)" in line and "10/10" in line for line in lines) == seen
        assert any("samples a: " in line for line in lines) != seen


def test_functions_name_the_side(capsys):
    ft.fid_of_images("a", "b\x1b[31m", Colours(), progress=True)
    labels = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert dict.fromkeys(labels) == {"samples": None, "reference": None}
    ft.moments_of_images("a", Colours(), progress="mine")
    assert capsys.readouterr().err.startswith("mine: ")


def test_report_shows_its_phases(capsys):
    _, _, lines = run(capsys, "report", "a", "b\x1b[31m")
    assert any(line.startswith("report: kernel distances") for line in lines)


def test_an_interrupt_names_the_file_and_a_resume_counts_from_it(capsys, folders, interrupt):
    interrupt(4)
    code, _, lines = run(capsys, "stats", "a", "out")
    message = "fidfast: interrupted; continue with the same command: out.partial.npz holds 6 images"
    assert (code, lines[-1]) == (130, message)
    code, _, lines = run(capsys, "stats", "a", "out")
    assert code == 0
    assert lines[0] == "fidfast: continuing: out.partial.npz holds 6 images"
    assert lines[1].startswith("a: 8 of 10 images (80 %)")
    assert not (folders / "out.partial.npz").exists()
    assert fidfast.GaussianStats.load("out.npz").num_samples == 10


def test_an_interrupt_without_a_file(capsys, interrupt):
    interrupt(1)
    code, out, lines = run(capsys, "fid", "a", "b\x1b[31m")
    assert (code, out, lines) == (130, "", ["fidfast: interrupted"])


def test_messages_of_several_lines_are_shown_in_one(capsys, interrupt):
    interrupt(2, RuntimeError("CUDA out of memory.\n  Tried to allocate 2 GiB.\n"))
    code, _, lines = run(capsys, "fid", "a", "b\x1b[31m")
    assert (code, lines[-1]) == (1, "fidfast: CUDA out of memory. Tried to allocate 2 GiB.")


def test_a_broken_image_names_the_option_that_skips_it(capsys, folders):
    (folders / "a" / "0003.png").write_bytes(b"not an image")
    code, out, lines = run(capsys, "fid", "a", "b\x1b[31m", "--quiet")
    assert (code, out) == (1, "")
    assert "0003.png: not an image" in lines[0]
    assert lines[0].endswith("; --skip-broken skips such images")


def test_a_broken_image_does_not_cost_the_images_before_it(capsys, folders, monkeypatch):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)
    (folders / "a" / "0008.png").write_bytes(b"not an image")
    code, _, lines = run(capsys, "stats", "a", "out", "--quiet")
    end = "; --skip-broken skips such images; continue with the same command: out.partial.npz holds 8 images"
    assert (code, lines[0].endswith(end)) == (1, True)
    code, out, _ = run(capsys, "stats", "a", "out", "--skip-broken")
    assert (code, out.splitlines()[0].split(",")[1]) == (0, " num_samples 9")


def test_the_label_is_the_path_as_given(capsys, folders):
    (folders / "latest").symlink_to("a")
    _, _, lines = run(capsys, "stats", "latest/", "out", "--no-cache")
    assert lines[0].startswith("latest: ")
