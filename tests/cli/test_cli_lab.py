"""`preferent lab`: what it leaves behind, what it lists, and how it refuses."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from preferent.cli.main import main
from preferent.core.errors import ConfigError
from preferent.lab.experiments.registry import EXPERIMENTS, builtin, load

TINY = """experiment = "over-optimisation"
seeds = [0]
comparisons = [60]
noise = [0.0]
prompts = 3
pool = 40
largest_n = 16
"""


def test_every_built_in_file_is_read_and_says_what_it_is() -> None:
    assert set(EXPERIMENTS) <= set(builtin())
    for name, says in builtin().items():
        assert says.startswith("Experiment")
        assert load(name)[0] in EXPERIMENTS


def test_listed_without_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in builtin())


def test_a_run_leaves_page_numbers_settings_plots_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml, folder = tmp_path / "my.toml", tmp_path / "out"
    toml.write_text(TINY, encoding="utf-8")
    assert main(["lab", str(toml), "-o", str(folder), "--set", "seeds=3"]) == 0
    out, err = capsys.readouterr()
    assert "What each reward model buys" in out
    assert "seed 3" in err
    assert "seed 0" not in err
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["settings"]["seeds"] == [3]
    assert len(results["data"]["arms"][0]["gold"][0]) == 5
    assert load(str(folder / "settings.toml"))[1].model_dump(mode="json") == results["settings"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == len(list((folder / "plots").iterdir())) == 3
    assert "one seed only" in page
    (table,) = [file for file in (folder / "tables").iterdir() if file.name.startswith("what-each")]
    (row,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    assert row["comparisons"] == "60"
    assert float(row["fitted peak d low"]) <= float(row["fitted peak d"]) <= float(row["fitted peak d high"])
    assert main(["lab", str(toml), "-o", str(folder)]) == 1
    assert "--force" in capsys.readouterr().err


def test_force_leaves_foreign_folders_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    assert main(["lab", "mitigations", "-o", str(tmp_path), "--force"]) == 1
    assert "not a run of `preferent lab`" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('experiment = "mitigation"', "did you mean 'mitigations'"),
        ("seeds = [0]", "experiment is not set"),
        ('experiment = "annotators"\nvote = 3', r"my.toml:2: unknown setting 'vote'.*did you mean 'votes'"),
        ('experiment = "annotators"\nn = 1', r"my.toml:2: n is 1, allowed: int >= 2"),
        ("experiment =", "cannot be read as TOML"),
    ],
)
def test_mistakes_in_a_file_are_placed_and_explained(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert re.search(says, str(caught.value), re.DOTALL), str(caught.value)


def test_a_name_that_is_nothing_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mitigations'"):
        load("mitigatons")


def test_strict_tells_failed_claims_by_the_exit_code(tmp_path: Path) -> None:
    toml = tmp_path / "my.toml"
    toml.write_text(TINY, encoding="utf-8")
    # One arm and 16 draws of 3 prompts show no fall.
    assert main(["lab", str(toml), "-o", str(tmp_path / "a"), "--strict"]) == 1
