"""`preferent compare` on two rules whose difference is planted."""

import json
from pathlib import Path

import pytest

from preferent.cli.main import main

MODULE = """
def plain(exchanges):
    return [(len(e.response) % 7) / 3 for e in exchanges]
def fond(exchanges):
    return [r + 3.0 * ("!" in e.response) for r, e in zip(plain(exchanges), exchanges)]
"""


def test_the_planted_difference_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "compared_here.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["compare", "compared_here:plain", "compared_here:fond", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    line = next(line for line in found["lines"] if line["name"] == "style.exclamation")
    assert line["better"] == "first"
    assert line["gain"]["high"] < -1
    assert (found["first"], found["second"]) == ("compared_here:plain", "compared_here:fond")
    assert main(["compare", "compared_here:plain", "compared_here:fond"]) == 0
    text = capsys.readouterr().out
    assert "Where compared_here:plain is better" in text
    assert "style.exclamation" in text
    assert main(["compare", "length", "length"]) == 1
    assert "both scorers are called 'length'" in capsys.readouterr().err
