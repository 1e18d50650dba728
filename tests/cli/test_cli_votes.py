"""`preferent agree` and `preferent aggregate` on a crowd whose truth is planted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from preferent.cli.main import preferent
from preferent.core.records import Preference
from preferent.data.gate import check

N_ITEMS, N_PEOPLE, LIARS = 300, 10, ("p0", "p1")


@pytest.fixture
def votes(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Six of ten people judge each comparison; all are right 85 times in 100, and two of them always say the opposite."""
    rng = np.random.default_rng(0)
    truth = {f"c{item}": str(rng.choice(["a", "b"])) for item in range(N_ITEMS)}
    rows = []
    for item, right in truth.items():
        for person in rng.choice(N_PEOPLE, 6, replace=False):
            says_right = (rng.random() < 0.85) != (f"p{person}" in LIARS)
            choice = right if says_right else {"a": "b", "b": "a"}[right]
            rows.append({"comparison_id": item, "annotator_id": f"p{person}", "choice": choice})
    path = tmp_path / "judgments.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path, truth


def run(*words: object) -> str:
    result = CliRunner().invoke(preferent, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def share_right(path: Path, truth: dict[str, str]) -> float:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {row["comparison_id"] for row in rows} == set(truth)
    assert all(row["low"] <= row["p_a"] <= row["high"] and row["n_judgments"] == 6 for row in rows)
    hits = [0.5 if row["p_a"] == 0.5 else float((row["p_a"] > 0.5) == (truth[row["comparison_id"]] == "a")) for row in rows]
    return float(np.mean(hits))


def test_a_model_of_the_annotators_beats_the_majority_and_names_the_liars(votes: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, truth = votes
    scores = {}
    for model in ("majority", "dawid-skene", "auto"):
        told = json.loads(run("aggregate", path, "-o", tmp_path / f"{model}.jsonl", "--model", model, "--json"))
        scores[model] = share_right(tmp_path / f"{model}.jsonl", truth)
        if model != "majority":
            assert {flag["annotator"] for flag in told["flags"] if flag["kind"] == "adversary"} == set(LIARS)
    assert scores["dawid-skene"] > scores["majority"] + 0.02
    assert scores["auto"] > scores["majority"] + 0.02


def test_agreement_is_what_can_be_counted_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    # Two people, four comparisons, three of them alike: percent 3/4; labels 5 a and 3 b, so expected 1 - 2*5*3/(8*7) = 26/56 for alpha,
    # alpha = 1 - (1/4) / (30/56) = 0.5333.
    pairs = [("a", "a"), ("a", "a"), ("b", "b"), ("a", "b")]
    rows = [
        {"comparison_id": f"c{item}", "annotator_id": person, "choice": choice, "objective": "tone"}
        for item, choices in enumerate(pairs)
        for person, choice in zip("xy", choices, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (block,) = json.loads(run("agree", path, "--by", "objective", "--pairs", "--min-shared", 2, "--json"))
    assert block["by"] == "tone"
    assert block["agreement"]["percent"]["value"] == pytest.approx(0.75)
    assert block["agreement"]["krippendorff_alpha"]["value"] == pytest.approx(1 - 0.25 / (30 / 56))
    assert block["pairs"][0]["shared"] == 4
    assert "percent" in run("agree", path)


def test_nothing_is_overwritten_and_a_bad_line_is_named(votes: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, _ = votes
    out = tmp_path / "out.jsonl"
    run("aggregate", path, "-o", out, "--model", "majority")
    with pytest.raises(FileExistsError):
        run("aggregate", path, "-o", out, "--model", "majority")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(path.read_text(encoding="utf-8") + '{"comparison_id": "c1", "annotator_id": "p1", "choice": "left"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.jsonl:1801.*left"):
        run("aggregate", bad, "-o", tmp_path / "never.jsonl")
    assert not (tmp_path / "never.jsonl").exists()


def test_with_the_comparisons_the_output_is_what_train_reads(tmp_path: Path) -> None:
    judgments, comparisons, out = tmp_path / "judgments.jsonl", tmp_path / "comparisons.jsonl", tmp_path / "preferences.jsonl"
    rows = [{"comparison_id": f"c{k}", "annotator_id": person, "choice": "ab"[k % 2]} for k in range(4) for person in "xyz"]
    judgments.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prompt = [{"role": "user", "content": "Tell me about it, please."}]
    texts = [{"id": f"c{k}", "prompt": prompt, "response_a": f"one {k}", "response_b": f"two {k}"} for k in range(4)]
    comparisons.write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
    run("aggregate", judgments, "--comparisons", comparisons, "-o", out, "--model", "majority")
    records = list(check(out, strict=True).records())
    assert [(record.id, record.p_a) for record in records if isinstance(record, Preference)] == [("c0", 1), ("c1", 0), ("c2", 1), ("c3", 0)]
    comparisons.write_text(json.dumps(texts[0]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no comparison has the id 'c1'"):
        run("aggregate", judgments, "--comparisons", comparisons, "-o", out, "--model", "majority", "--force")
