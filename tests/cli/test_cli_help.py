"""The help of each command, and its examples."""

import shlex

import pytest

from fidfast._cli import arguments
from fidfast._cli import commands as cli
from fidfast._cli.examples import EXAMPLES

COMMANDS = [name for name, *_ in arguments._COMMANDS]
LINES = [(command, line) for command, examples in EXAMPLES.items() for line, _ in examples]


def help_of(capsys, command):
    with pytest.raises(SystemExit) as error:
        cli.main([command, "--help"])
    assert error.value.code == 0
    return capsys.readouterr().out


def test_every_command_has_two_or_three_examples():
    assert list(EXAMPLES) == COMMANDS
    assert all(2 <= len(examples) <= 3 for examples in EXAMPLES.values())


@pytest.mark.parametrize(("command", "line"), LINES, ids=[line for _, line in LINES])
def test_examples_are_parsed(command, line):
    words = shlex.split(line.partition(" > ")[0])  # without what the shell reads
    assert words[0] == "fidfast"
    options = arguments.parse(words[1:])
    assert options.command == command
    assert options.command_line == shlex.join(words)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_the_examples(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(capsys, command)
    lines = text.rstrip("\n").split("\n")
    assert all(len(line) <= 80 for line in lines)
    expected = [text for line, meaning in EXAMPLES[command] for text in (f"  # {meaning}", f"  {line}")]
    assert lines[-len(expected) - 1 :] == ["examples:", *expected]
    assert lines[0].startswith(f"usage: fidfast {command}")
