"""Every code block of the README and of docs/ runs, and prints what the page shows."""

import ast
import contextlib
import importlib
import io
import re
import shlex

import code_blocks
import commands
import pages
import pytest
import surroundings
import torch

from fidfast._cli import commands as cli

PAGES = {page.name: page for page in code_blocks.PAGES}
RUNNABLE = {name: list(code_blocks.blocks(page)) for name, page in PAGES.items()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    surroundings.stand_in(monkeypatch, tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the operations are too small to gain from several
    yield tmp_path
    torch.set_num_threads(threads)
    commands.leave_group()


@pytest.mark.parametrize("name", [name for name, found in RUNNABLE.items() if found])
def test_the_blocks_of_a_page_run(name, folder, monkeypatch):
    namespace = pages.prepare(name, folder, monkeypatch)
    printed = ""
    for block in RUNNABLE[name]:
        if block.kind == "output" and block.reason is None:
            if block.command is None:
                assert lines(block.text) == lines(printed), str(block)
            else:
                expected = lines(printed_by(block))
                assert set(lines(block.text)) <= set(expected), (str(block), expected)
        elif block.kind == "commands":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                for words in block.commands:
                    commands.run(words, only_parse=block.reason is not None)
            printed = out.getvalue()
        elif block.kind == "python":
            code = "\n" * block.line + block.text  # so that a traceback has the line of the page
            tree = ast.parse(code, str(block.page))
            require_names(tree, block)
            if block.reason is None:
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(tree, str(block.page), "exec"), namespace)
                printed = out.getvalue()


def printed_by(block):
    """Standard output and error of the command of the block."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        cli.main(shlex.split(block.command)[1:])
    return out.getvalue()


def lines(text):
    """Lines without spaces at their ends."""
    return [line.rstrip() for line in text.strip().splitlines()]


def require_names(tree, block):
    """Every ``fidfast.a.b`` exists, also in blocks that are not run."""
    for node in ast.walk(tree):
        path = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if not re.fullmatch(r"fidfast(\.\w+)+", path):
            continue
        value = importlib.import_module("fidfast")
        for part in path.split(".")[1:]:
            if not hasattr(value, part):
                value = importlib.import_module(f"{value.__name__}.{part}")
            else:
                value = getattr(value, part)


def test_blocks_that_are_not_run():
    """The list of all exceptions: each has a reason in the page."""
    left_out = {str(block).partition(":")[0]: 0 for found in RUNNABLE.values() for block in found if block.reason}
    for found in RUNNABLE.values():
        for block in found:
            if block.reason:
                assert len(block.reason.split()) > 1, block
                left_out[block.page.name] += 1
    assert left_out == pages.NOT_RUN


def test_no_other_block_is_left_out():
    """Blocks of the kind "other" are formulas, settings and shown tables."""
    others = {name: sum(block.kind == "other" for block in found) for name, found in RUNNABLE.items()}
    assert {name: count for name, count in others.items() if count} == pages.OTHER
