"""The committed results: the README is written from them, and the page shows them all."""

import json
import re

import pytest

from benchmarks.gans import __main__ as command_line
from benchmarks.gans import experiment, report
from benchmarks.gans.work import Work

FOUND = report.committed()


def test_every_experiment_has_a_result_of_the_full_preset():
    assert [(stored.name, stored.preset) for stored in FOUND] == [(name, "full") for name in experiment.NAMES]


def test_the_readme_is_written_from_the_results():
    text = report.as_markdown(FOUND, plots=report.PLOTS)
    assert (experiment.COMMITTED.parents[1] / "gans" / "README.md").read_text() == text, (
        "run python -m benchmarks.gans report --markdown benchmarks/gans/README.md"
    )


@pytest.mark.parametrize("stored", FOUND, ids=lambda stored: stored.name)
def test_results(stored):
    module = stored.module
    fields = json.loads((stored.folder / f"{experiment.file_stem(stored.name, 'full')}.json").read_text())
    assert [sentence["text"] for sentence in fields["claim"]] == [each.text for each in module.claim(stored.result)]
    assert json.loads(json.dumps(experiment.settings_of(module, full=True, seeds=None).__dict__)) == (
        stored.result.settings
    )
    assert 1000 < stored.plot_path.stat().st_size <= experiment.MAX_PLOT
    assert {figure.mark for figure in module.figures(stored.result)} <= {"read", "derived", "checked", "remembered", ""}
    assert stored.seconds < 3600
    assert len(module.CLAIM) < 120


def test_the_page_holds_every_plot_and_no_link_to_other_files():
    page = report.page(FOUND)
    assert page.count('src="data:image/png;base64,') == len(FOUND)
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for stored in FOUND:
        assert f'id="{stored.name}"' in page
    assert page.count("Does not hold") == sum(
        not sentence.holds for stored in FOUND for sentence in stored.module.claim(stored.result)
    )


def test_the_list_has_one_line_for_each_experiment():
    lines = command_line.listing().splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(map(experiment.shown_name, experiment.NAMES))
    assert all(re.match(r"\S+ +\d+ (s|min) +\d+ (s|min)  \S", line) for line in lines)


def test_run_and_report_on_the_command_line(tmp_path, monkeypatch, capsys):
    def call(*arguments):
        out = [] if arguments[0] == "list" else ["--out", str(tmp_path)]
        monkeypatch.setattr("sys.argv", ["benchmarks.gans", *arguments, *out])
        return command_line.main()

    assert call("run", "saddle-point") == 0
    assert "holds" in capsys.readouterr().out
    assert call("run", "saddle-point", "--resume") == 0
    capsys.readouterr()
    assert call("run", "saddle-point", "--resume", "--seeds", "33") == 2
    assert "its seeds is" in capsys.readouterr().err
    assert call("run", "sadle-point") == 2
    assert "there is no experiment 'sadle-point'" in capsys.readouterr().err
    assert call("run", "saddle-point", "--data", str(tmp_path / "none")) == 2
    assert "--data: there is no" in capsys.readouterr().err
    assert call("report") == 0
    page = (tmp_path / "report.html").read_text()
    section = page[page.index('<h2 id="saddle_point"') : page.index('<h2 id="dirac_gan"')]
    assert "Quick preset" in section  # the own result, not the committed one
    assert page.count("committed result.") == len(experiment.NAMES) - 1


def test_other_seeds_are_named_in_the_report(tmp_path):
    module = experiment.load("saddle_point")
    result = module.run(experiment.settings_of(module, full=False, seeds=33), Work())
    stored = experiment.write(tmp_path, "saddle_point", result, preset="quick", seconds=1.0)
    assert stored.changed_settings == {"seeds": 33}
    assert "the preset quick with seeds=33" in report.page([stored])
    assert not (tmp_path / "times.json").exists()


def test_cells_of_tables_are_escaped():
    assert report._cell("|v|^2") == r"\|v\|^2"


def test_a_file_of_another_version_is_named(tmp_path):
    (tmp_path / "games.json").write_text('{"result": {"other": 1}, "seconds": 1, "machine": {}}')
    with pytest.raises(ValueError, match=r"games.json was written by another version .*: run it again"):
        experiment.read(tmp_path, "games", "full")
