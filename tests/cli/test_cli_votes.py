"""`preferent agree` and `preferent aggregate` on a crowd whose truth is planted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from preferent.cli.main import preferent
from preferent.core.errors import DataError
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
    # Somebody who says the same twice has one vote.
    again = tmp_path / "again.jsonl"
    again.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]), encoding="utf-8")
    with pytest.raises(DataError, match="1 repeated votes") as refused:
        run("agree", again)
    assert "--repeats merge" in str(refused.value)
    (merged,) = json.loads(run("agree", again, "--by", "objective", "--repeats", "merge", "--json"))
    assert merged["agreement"] == block["agreement"]


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


@pytest.fixture
def tournament(tmp_path: Path) -> tuple[Path, dict[str, float]]:
    """Twelve responses to one prompt, every pair judged by four of ten people; p0 says the opposite, p1 always clicks the first."""
    rng = np.random.default_rng(3)
    quality = {f"an answer of quality {k}": float(score) for k, score in enumerate(rng.normal(0, 1.6, 12))}
    texts, rows = list(quality), []
    for i in range(12):
        for j in range(i + 1, 12):
            a, b = (texts[i], texts[j]) if rng.random() < 0.5 else (texts[j], texts[i])
            for person in rng.choice(10, 4, replace=False).tolist():
                gap = (quality[a] - quality[b]) * (-1.0 if person == 0 else 1.0)
                first = str(rng.choice(["a", "b"]))
                choice = first if person == 1 else str("a" if rng.random() < 1 / (1 + np.exp(-gap)) else "b")
                row = {"comparison_id": f"c{i:02d}-{j:02d}", "annotator_id": f"p{person}", "choice": choice, "shown_first": first}
                rows.append({**row, "prompt": [{"role": "user", "content": "q"}], "response_a": a, "response_b": b, "seconds": 9.0})
    path = tmp_path / "tournament.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path, quality


@pytest.mark.parametrize("model", ["bradley_terry", "davidson", "annotator_slope", "crowd_bt", "auto"])
def test_scores_of_responses_and_a_row_for_every_annotator(tournament: tuple[Path, dict[str, float]], tmp_path: Path, model: str) -> None:
    path, quality = tournament
    out, responses, people = tmp_path / "out.jsonl", tmp_path / "responses.jsonl", tmp_path / "people.jsonl"
    told = json.loads(run("aggregate", path, "-o", out, "--model", model, "--responses", responses, "--annotators", people, "--json"))
    assert told["converged"]
    rows = [json.loads(line) for line in responses.read_text(encoding="utf-8").splitlines()]
    assert {row["response"] for row in rows} == set(quality)
    assert all(row["low"] < row["score"] < row["high"] and 0 < row["prior_share"] <= 1 and row["component"] == 0 for row in rows)
    assert all(row["n_judgments"] == 44 and row["prompt"][0]["content"] == "q" for row in rows)
    assert np.corrcoef([row["score"] for row in rows], [quality[row["response"]] for row in rows])[0, 1] > 0.9
    pairs = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(pairs) == 66
    assert all(0 < row["low"] < row["p_a"] < row["high"] < 1 and row["n_judgments"] == 4 for row in pairs)
    crowd = {row["annotator_id"]: row for row in map(json.loads, people.read_text(encoding="utf-8").splitlines())}
    assert len(crowd) == 10
    assert crowd["p1"]["first_share"]["value"] == 1.0
    assert all(row["median_seconds"] == 9.0 and row["ties_share"] is None for row in crowd.values())
    assert crowd["p0"]["reliability"]["value"] < min(row["reliability"]["value"] for name, row in crowd.items() if name not in ("p0", "p1"))
    if model == "annotator_slope":
        assert {"slope", "position"} <= set(crowd["p1"]["traits"])
    if model == "auto":
        assert told["model"].split(" + ")[0] in ("bradley_terry", "annotator_slope", "crowd_bt")
        assert "held-out votes" in told["reason"]


def test_scores_need_to_know_the_responses(votes: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, _ = votes
    with pytest.raises(ValueError, match="do not say"):
        run("aggregate", path, "-o", tmp_path / "out.jsonl", "--model", "davidson")
    with pytest.raises(ValueError, match="no scores of responses"):
        run("aggregate", path, "-o", tmp_path / "out.jsonl", "--model", "majority", "--responses", tmp_path / "responses.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_kinds_of_ties_are_choices_and_a_lone_vote_is_marked(tmp_path: Path) -> None:
    path, out = tmp_path / "kinds.jsonl", tmp_path / "out.jsonl"
    rows = [("c1", "x", "both_bad"), ("c1", "y", "a"), ("c2", "x", "tie"), ("c2", "y", "both_good"), ("c3", "x", "a")]
    path.write_text(
        "".join(json.dumps({"comparison_id": c, "annotator_id": who, "choice": choice}) + "\n" for c, who, choice in rows), encoding="utf-8"
    )
    run("aggregate", path, "-o", out, "--model", "majority")
    found = {row["comparison_id"]: row for row in map(json.loads, out.read_text(encoding="utf-8").splitlines())}
    assert [found[c]["p_a"] for c in ("c1", "c2", "c3")] == [0.75, 0.5, 1.0]
    assert "warnings" not in found["c1"]
    assert found["c3"]["warnings"] == ["one vote: nobody contradicts or confirms it"]
