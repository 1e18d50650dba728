"""`preferent audit`: a Python function as the scorer, exit codes for CI, the report, the card."""

import json
from pathlib import Path

import pytest

from preferent.cli.main import main

MODULE = """
from preferent.core.scorer import length_scorer
def likes_bold(exchanges):
    return [2.0 * min(2, e.response.count("**")) + (len(e.response) % 7) / 3 for e in exchanges]
def wrong(exchanges):
    return [float("nan")] * len(exchanges)
scorer = length_scorer()
number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "audited_here.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def rows(path: Path, n: int = 40) -> Path:
    lines = [
        {"id": str(k), "prompt": f"ask {k}", "chosen": f"a reply {k} that is right", "rejected": f"a reply {k} that is wrong and long"}
        for k in range(n)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_function_is_audited_and_a_named_finding_exits_with_3(here: Path, capsys: pytest.CaptureFixture[str]):
    words = ["audit", "audited_here:likes_bold", "--only", "edits", "-o", "report.html", "--json", "--fail-on", "format.bold:0.5"]
    assert main(words) == 3
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["scorer"] == "audited_here:likes_bold"
    assert {line["name"] for line in found["findings"] if line["verdict"] == "finding"} >= {"format.bold"}
    assert "fails: format: bold" in err
    assert "report: report.html" in err
    page = (here / "report.html").read_text(encoding="utf-8")
    assert "format: bold" in page
    assert main(words) == 1  # the report is there
    assert "--force" in capsys.readouterr().err
    assert main([*words[:-1], "format.bold:99", "--force"]) == 0
    assert main([*words[:-1], "reader,attack:99", "--force"]) == 0


def test_own_rows_and_the_length_rule(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["audit", "length", str(rows(here / "rows.jsonl")), "--only", "calibration,length_style", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_pairs"] == 40
    accuracy = next(line for line in found["findings"] if line["name"] == "accuracy")
    assert accuracy["estimate"]["value"] == 0.0  # the longer side is always wrong here
    assert accuracy["verdict"] == "finding"
    assert found["ledger"]["rows"] == 40
    assert main(["audit", "audited_here:scorer", str(here / "rows.jsonl"), "--only", "shape"]) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["audit", "audited_here:nothing"], "no attribute 'nothing'"),
        (["audit", "audited_here:number"], "is int"),
        (["audit", "audited_here:wrong", "--only", "shape"], "the reward of"),
        (["audit", "length", "--only", "shapes"], "no question 'shapes'"),
        (["audit", "length", "--fail-on", "lenght"], "did you mean 'length'"),
        (["audit", "length", "--only", "shape", "--fail-on", "edits"], "nothing that is asked here"),
        (["audit", "length", "--card"], "--card needs a checkpoint folder"),
    ],
)
def test_mistakes_are_told(here: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str):
    assert main(words) == 1
    assert says in capsys.readouterr().err


def test_a_checkpoint_gets_its_card(here: Path, capsys: pytest.CaptureFixture[str]):
    torch = pytest.importorskip("torch")
    from preferent.models.reward_model import RewardModel

    torch.set_num_threads(1)
    model = RewardModel.create("tiny", max_length=64, texts=["a few words to learn a tokenizer from"] * 20)
    model.save(here / "my-model", model.card)
    assert main(["audit", "my-model", str(rows(here / "rows.jsonl")), "--card", "--only", "shape,calibration"]) == 0
    card = (here / "my-model" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name:")
    assert "# my-model" in card
    assert "Accuracy" in card
    (here / "my-model" / "README.md").write_text("mine", encoding="utf-8")
    capsys.readouterr()
    assert main(["audit", "my-model", "--card"]) == 1
    assert "was not written by --card" in capsys.readouterr().err
