"""Results and messages on any stream, with any file name."""

import contextlib
import errno
import io
import json
import os
import sys
import threading

import numpy as np
import pytest

import fidfast
from fidfast._cli import commands as cli

#: Not UTF-8, a terminal's escape sequence, a line break, a C1 control character, a right-to-left override.
NAME = os.fsdecode(b"x\xff\x1b[31m\ny\xc2\x9b\xe2\x80\xae.npy")
SHOWN = r"x\udcff\x1b[31m\ny\x9b\u202e.npy"


@pytest.fixture(autouse=True)
def files(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", rng.standard_normal((30, 4)))
    np.save("écran±日本.npy", rng.standard_normal((30, 4)))
    try:
        np.save(NAME, rng.standard_normal((20, 4)))
        np.save(f"wide{NAME}", rng.standard_normal((20, 5)))
    except (OSError, UnicodeError):
        pytest.skip("the file system takes UTF-8 names only")
    return tmp_path


class FullStream(io.StringIO):
    """A full disk or pipe."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def run(monkeypatch, *arguments, encoding="utf-8", stdout=None, stderr=None):
    """Exit code, standard output and standard error as text; both streams are strict."""
    streams = [stream or io.TextIOWrapper(io.BytesIO(), encoding, "strict") for stream in (stdout, stderr)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    code = cli.main(arguments)
    for stream in streams:
        if hasattr(stream, "buffer"):
            stream.flush()
    texts = [stream.buffer.getvalue().decode(encoding) if hasattr(stream, "buffer") else None for stream in streams]
    return code, *texts


COMMANDS = {
    "fid": ("fid", "{}", "a.npy"),
    "estimate": ("fid", "{}", "a.npy", "--estimate"),
    "report": ("report", "{}", "a.npy"),
    "info": ("info", "{}"),
    "stats": ("stats", "a.npy", "out{}"),
}


@pytest.mark.parametrize("encoding", ["ascii", "cp932", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("name", [NAME, "écran±日本.npy"])
@pytest.mark.parametrize("command", COMMANDS)
def test_any_name_on_any_terminal(monkeypatch, command, name, encoding):
    code, out, err = run(monkeypatch, *(word.format(name) for word in COMMANDS[command]), encoding=encoding)
    assert (code, err) == (0, "")
    assert all(line.isprintable() for line in out.splitlines())
    if name == NAME and command not in ("fid", "estimate"):
        assert SHOWN in out


@pytest.mark.parametrize("encoding", ["ascii", "cp932", "latin-1", "utf-8"])
@pytest.mark.parametrize("command", ["fid", "estimate", "report", "info"])
def test_json_is_valid_and_names_survive(monkeypatch, command, encoding):
    arguments = [word.format(NAME) for word in COMMANDS[command]]
    code, out, err = run(monkeypatch, *arguments, "--json", encoding=encoding)
    numbers = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert numbers.get("file", numbers.get("files", [None])[0]) == NAME
    assert out[:-1].isprintable()


def test_json_has_no_nan(monkeypatch):
    fidfast.GaussianStats(np.zeros(2), np.diag([1e308, 1e308])).save("huge.npz")  # the trace is infinite
    _, out, _ = run(monkeypatch, "info", "huge.npz", "--json")
    assert json.loads(out, parse_constant=lambda name: pytest.fail(name))["trace"] is None


def test_numbers_of_a_plain_terminal(monkeypatch):
    expected = fidfast.fid("a.npy", NAME)
    _, out, _ = run(monkeypatch, "fid", "a.npy", NAME, encoding="ascii")
    assert out.splitlines()[0] == f"Frechet distance {expected:.8g}"
    _, out, _ = run(monkeypatch, "fid", "a.npy", NAME, "--estimate", encoding="cp932")
    assert out.startswith("Frechet distance ")
    assert " ± " in out
    _, out, _ = run(monkeypatch, "fid", "a.npy", NAME, "--estimate", encoding="ascii")
    assert " +- " in out


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_errors_and_warnings_are_one_line(monkeypatch, encoding):
    code, out, err = run(monkeypatch, "fid", "gone" + NAME, "a.npy", encoding=encoding)
    assert (code, out, err) == (1, "", f"fidfast: no such file: gone{SHOWN}\n")
    code, _, err = run(monkeypatch, "stats", f"wide{NAME}", f"gone{NAME}/out", encoding=encoding)
    assert (code, err) == (1, f"fidfast: no such folder to write to: gone{SHOWN}\n")
    fidfast.GaussianStats(np.zeros(4), np.eye(4), extractor=f"net{NAME}").save("one.npz")
    fidfast.GaussianStats(np.zeros(4), np.eye(4), extractor="net\n\x1b[2J").save("two.npz")
    code, out, err = run(monkeypatch, "fid", "one.npz", "two.npz", encoding=encoding)
    assert (code, err.count("\n"), out.count("\n")) == (0, 1, 2)
    assert (out + err).replace("\n", "").isprintable()


@pytest.mark.parametrize("options", [(), ("--json",), ("--estimate",)])
def test_a_result_that_cannot_be_written_goes_to_standard_error(monkeypatch, options):
    _, expected, _ = run(monkeypatch, "fid", "a.npy", NAME, *options)
    code, _, err = run(monkeypatch, "fid", "a.npy", NAME, *options, stdout=FullStream())
    message, _, result = err.partition("\n")
    assert code == 1
    assert (
        message == "fidfast: cannot write to standard output ([Errno 28] No space left on device); the result follows"
    )
    assert result == expected


def test_the_page_is_written_although_standard_output_is_full(monkeypatch, files):
    code, _, err = run(monkeypatch, "report", "a.npy", NAME, "--no-pairs", "--html", "p.html", stdout=FullStream())
    assert code == 1
    assert "as reported by other tools" in err
    assert (files / "p.html").exists()


def test_a_page_of_any_name(monkeypatch, files):
    fidfast.Moments.from_features(np.load("a.npy")).stats().save(f"s{NAME}.npz")
    page = f"page{NAME}.html"
    code, _, err = run(monkeypatch, "report", f"s{NAME}.npz", NAME, "--html", page)
    assert (code, err) == (0, "")
    text = (files / page).read_text(encoding="utf-8")
    assert SHOWN in text
    assert "\x1b" not in text


def test_a_page_that_cannot_be_written_does_not_cost_the_numbers(monkeypatch, capsys):
    def fail(self, path):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(fidfast.Report, "write_html", fail)
    for options in ((), ("--json",)):
        code, out, err = run(monkeypatch, "report", "a.npy", NAME, "--no-pairs", "--html", "p.html", *options)
        assert code == 1
        assert "No space left on device" in err
        assert "unbiased" in out


@pytest.mark.parametrize("stderr", [FullStream(), io.StringIO()])
def test_messages_never_fail(monkeypatch, stderr):
    if not isinstance(stderr, FullStream):
        stderr.close()
    fidfast.GaussianStats(np.zeros(4), np.eye(4), extractor="one").save("one.npz")
    fidfast.GaussianStats(np.ones(4), np.eye(4), extractor="two").save("two.npz")
    code, out, _ = run(monkeypatch, "fid", "one.npz", "two.npz", stderr=stderr)  # warns
    assert (code, out.splitlines()[0]) == (0, "Fréchet distance 4")
    assert run(monkeypatch, "fid", "gone.npz", "a.npy", stderr=stderr)[0] == 1
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "fid", "--gone", stderr=stderr)


@pytest.mark.parametrize(("with_out", "with_err"), [(False, True), (True, False), (False, False)])
def test_closed_streams(monkeypatch, capsys, with_out, with_err):
    with monkeypatch.context() as patch:
        for name, kept in (("stdout", with_out), ("stderr", with_err)):
            patch.setattr(sys, name, getattr(sys, name) if kept else None)
        assert cli.main(["fid", "a.npy", NAME]) == (0 if with_out else 1)
    out, err = capsys.readouterr()
    assert ("Fréchet distance " in out, "Fréchet distance " in err) == (with_out, with_err and not with_out)


@pytest.mark.skipif(not hasattr(os, "set_blocking"), reason="needs non-blocking pipes")
def test_a_full_pipe_that_does_not_block_is_waited_for(monkeypatch):
    _, expected, _ = run(monkeypatch, "fid", "a.npy", NAME)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writer, bytes(4096))
    received = []

    def read():
        while sum(map(len, received)) < filled + len(expected.encode()):
            received.append(os.read(reader, 65536))

    thread = threading.Thread(target=read)
    with open(writer, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        timer = threading.Timer(0.1, thread.start)
        timer.start()
        assert cli.main(["fid", "a.npy", NAME]) == 0
        assert not os.get_blocking(writer)
    timer.join()
    thread.join()
    os.close(reader)
    assert b"".join(received)[filled:].decode() == expected


def test_what_a_network_prints_is_not_in_the_result(monkeypatch, files):
    (files / "loud_network.py").write_text(
        "print('import')\ndef make():\n print('make')\n return lambda images: images.mean(dim=(2, 3))\n"
    )
    np.save("images.npy", np.arange(5 * 8 * 8 * 3, dtype=np.uint8).reshape(5, 8, 8, 3))
    arguments = ("fid", "images.npy", "images.npy", "--extractor", "loud_network:make", "--device", "cpu", "--json")
    code, out, err = run(monkeypatch, *arguments)
    assert (code, err) == (0, "import\nmake\n")
    assert json.loads(out)["extractor"] == ["loud_network:make"] * 2
