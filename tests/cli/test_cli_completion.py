"""``fidfast completion``: the scripts, and completions that bash finds with them."""

import shutil
import subprocess
import sys

import pytest

from fidfast._cli import arguments, completion
from fidfast._cli import commands as cli


def script_of(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.fixture
def bash(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    return tmp_path


@pytest.mark.parametrize("shell", arguments.SHELLS)
def test_scripts_have_every_command_and_option(shell, capsys):
    text = script_of(capsys, shell)
    _, commands = arguments.parsers()
    for name, command in commands.items():
        assert name in text
        for option in command._option_string_actions:
            assert option.lstrip("-") in text, f"{name} {option}"
    assert "dinov2-vitl14" in text
    assert "clean-fid" in text


@pytest.mark.parametrize("shell", arguments.SHELLS)
def test_shells_accept_their_script(shell, capsys, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    (tmp_path / "script").write_text(script_of(capsys, shell), encoding="utf-8")
    done = subprocess.run([shell, "-n", "script"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def completions(capsys, folder, *words):
    """What bash completes for the last of the words."""
    (folder / "script").write_text(script_of(capsys, "bash"), encoding="utf-8")
    code = 'source ./script; compopt() { :; }; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_fidfast\n'
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", code, "bash", *words], capture_output=True, text=True, check=False, cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_bash_completes_commands_options_and_values(bash, capsys):
    _, commands = arguments.parsers()
    assert completions(capsys, bash, "fidfast", "") == list(commands)
    assert completions(capsys, bash, "fidfast", "ev") == ["evaluate"]
    assert completions(capsys, bash, "fidfast", "fid", "--pre") == ["--precision"]
    assert completions(capsys, bash, "fidfast", "cache", "--pre") == []
    assert completions(capsys, bash, "fidfast", "fid", "--precision", "") == ["float32", "float64"]
    assert completions(capsys, bash, "fidfast", "fid", "--like", "") == list(completion.TOOLS)
    assert completions(capsys, bash, "fidfast", "stats", "--extractor", "mae") == ["mae-vitl16"]


def test_bash_completes_files(bash, capsys):
    (bash / "samples.npy").write_bytes(b"")
    (bash / "reference.npz").write_bytes(b"")
    assert completions(capsys, bash, "fidfast", "fid", "sam") == ["samples.npy"]
    assert completions(capsys, bash, "fidfast", "fid", "samples.npy", "ref") == ["reference.npz"]
    assert completions(capsys, bash, "fidfast", "report", "--html", "ref") == ["reference.npz"]


def test_names_are_those_of_the_package():
    ft = pytest.importorskip("fidfast.torch")
    from fidfast.torch._extractors.named import BUILT_IN

    assert set(completion.EXTRACTORS) == set(BUILT_IN)
    assert set(completion.TOOLS) == set(ft.LIKE)
    assert set(completion.RESIZES) == set(ft.RESIZES)


def test_without_shtab_the_error_names_the_next_step(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fidfast: completion needs shtab: pip install 'fidfast[completion]'")
    assert error.count("\n") == 1


def test_torch_is_not_imported():
    code = "import sys; from fidfast._cli.commands import main; main(['completion', 'bash']); "
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True, cwd="/")


def test_other_shells_are_refused(capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(["completion", "csh"])
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert all(shell in message for shell in ("csh", *arguments.SHELLS))
