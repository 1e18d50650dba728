"""`preferent triage`: what is written can be asked, and says nothing to whom it is shown; folds do not leak."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from preferent.cli.cross_fit import trained_on
from preferent.cli.main import preferent
from preferent.core.errors import ExistsError
from preferent.core.records import Preference, user
from preferent.data.sketch import write_sketch
from preferent.data.write import write_preferences


def run(*words: object) -> tuple[str, str]:
    result = CliRunner().invoke(preferent, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout, result.stderr


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def labelled(n: int = 40, wrong: tuple[int, ...] = (3, 17, 22)) -> list[Preference]:
    """The longer response is the better one, and response a; the labels of `wrong` are flipped."""
    return [
        Preference(
            prompt=user(f"request number {k} of {n}, about item {k * k}"),
            response_a="word " * (20 + k),
            response_b="word " * (10 + k // 2),
            p_a=0.0 if k in wrong else 1.0,
            id=f"p{k}",
        )
        for k in range(n)
    ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_preferences(tmp_path / "labels.jsonl", labelled())
    return tmp_path / "labels.jsonl"


def test_planted_flips_come_first_and_the_labels_stay(source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    out, _ = run("triage", source, "--model", "length", "-o", tmp_path / "ask.jsonl", "-n", "6", "--random-share", "0.5")
    rows = read(tmp_path / "ask.jsonl")
    assert source.read_bytes() == before
    assert {row["id"] for row in rows[:3]} == {"p3", "p17", "p22"}
    assert [row["triage"]["reason"] for row in rows] == ["against"] * 3 + ["random"] * 3
    assert "40 decided labels are contradicted" in out
    # 3 of 40 are flipped, and the scorer is the truth.
    assert out.startswith("0.075")


def test_sides_are_shuffled_with_all_that_speaks_of_them(tmp_path: Path) -> None:
    """Data sets write the chosen response first: an annotator who is shown it first learns the label."""
    write_preferences(tmp_path / "labels.jsonl", labelled(60, wrong=()))
    run("triage", tmp_path / "labels.jsonl", "--model", "length", "-o", tmp_path / "ask.jsonl", "-n", "60")
    rows = read(tmp_path / "ask.jsonl")
    longer_first = [len(row["response_a"]) > len(row["response_b"]) for row in rows]
    assert 15 <= sum(longer_first) <= 45
    for row, first in zip(rows, longer_first, strict=True):
        assert row["triage"]["p_a"] == float(first) == float(not row["triage"]["sides_exchanged"])
        assert (row["triage"]["p_model"] > 0.5) == first
        assert row["triage"]["p_model"] == pytest.approx(row["triage"]["members"][0])


def test_what_is_written_is_what_next_takes(source: Path, tmp_path: Path) -> None:
    run("triage", source, "--model", "length", "-o", tmp_path / "ask.jsonl", "-n", "10")
    rows = read(tmp_path / "ask.jsonl")
    votes = [{"comparison_id": rows[0]["id"], "annotator_id": f"ann{k}", "choice": "a"} for k in range(3)]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes), encoding="utf-8")
    run(
        "next",
        tmp_path / "votes.jsonl",
        "--pairs",
        tmp_path / "ask.jsonl",
        "-n",
        "5",
        "--strategy",
        "coverage",
        "-o",
        tmp_path / "next.jsonl",
    )
    asked = read(tmp_path / "next.jsonl")
    assert len(asked) == 5
    assert {row["comparison_id"] for row in asked} <= {row["id"] for row in rows}


def test_ids_are_made_and_kept_apart(tmp_path: Path) -> None:
    rows = [row.model_copy(update={"id": None if k % 2 else "same"}) for k, row in enumerate(labelled(12))]
    write_preferences(tmp_path / "labels.jsonl", rows)
    run("triage", tmp_path / "labels.jsonl", "--model", "length", "-o", tmp_path / "ask.jsonl")
    assert len({row["id"] for row in read(tmp_path / "ask.jsonl")}) == 12


def test_made_rows_are_not_asked_about(source: Path, tmp_path: Path) -> None:
    run("augment", source, "-o", tmp_path / "more.jsonl", "--kind", "rrm")
    out, _ = run("triage", tmp_path / "more.jsonl", "--model", "length", "-o", tmp_path / "ask.jsonl", "--json")
    assert json.loads(out)["pairs"] == 40


def test_an_ensemble_speaks_with_its_mean(source: Path, tmp_path: Path) -> None:
    out, _ = run("triage", source, "--model", "length", "--model", "length", "-o", tmp_path / "ask.jsonl", "--json")
    told = json.loads(out)
    assert told["members"] == 2
    assert all(row["triage"]["spread"] == 0.0 for row in told["questions"])


def test_a_model_of_the_same_prompts_is_named(source: Path, tmp_path: Path) -> None:
    """The sketch beside a checkpoint holds its training prompts."""
    pairs = labelled()
    folder = tmp_path / "model"
    folder.mkdir()
    assert trained_on(str(folder), pairs) == []
    write_sketch(folder, pairs[:10])
    (note,) = trained_on(str(folder), pairs)
    assert "trained on 25% of these prompts" in note
    write_sketch(folder, [row.model_copy(update={"prompt": user(f"something else entirely {row.id}")}) for row in pairs])
    assert trained_on(str(folder), pairs) == []


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "one of the two"),
        (["--model", "length", "--folds", "2", "--base", "tiny"], "one of the two"),
        (["--folds", "2"], "name what with --base"),
        (["--model", "length", "--members", "2"], "go with --folds"),
    ],
)
def test_options_that_do_not_go_together(source: Path, tmp_path: Path, words: list[str], match: str) -> None:
    with pytest.raises(click.UsageError, match=match):
        run("triage", source, "-o", tmp_path / "ask.jsonl", *words)


def test_nothing_is_overwritten(source: Path) -> None:
    with pytest.raises(ExistsError):
        run("triage", source, "--model", "length", "-o", source)


def test_cross_fitting_trains_on_the_other_folds_and_finds_planted_flips(tmp_path: Path) -> None:
    """One word makes a reply the better one; 12 of 120 labels are flipped. A tiny model, two folds: the flips' mean rank is well up."""
    rng = np.random.default_rng(0)
    flipped = set(rng.permutation(120)[:12].tolist())
    rows = []
    for k in range(120):
        good, poor = f"yes indeed {rng.integers(9)}", f"no never {rng.integers(9)}"
        rows.append(Preference(prompt=user(f"item {k} {rng.integers(10**9)}"), response_a=good, response_b=poor,
                               p_a=float(k not in flipped), id=f"p{k}"))  # fmt: skip
    write_preferences(tmp_path / "labels.jsonl", rows)
    (tmp_path / "s.toml").write_text(
        'base = "tiny"\nmax_steps = 12\nmax_length = 32\nthreads = 1\nlearning_rate = 3e-3\n', encoding="utf-8"
    )
    _, err = run("triage", tmp_path / "labels.jsonl", "--folds", "2", "--config", tmp_path / "s.toml", "-o", tmp_path / "ask.jsonl",
                 "-n", "120", "--random-share", "0")  # fmt: skip
    assert "60 records to train on" in err
    ranks = [row["triage"]["rank"] for row in read(tmp_path / "ask.jsonl") if int(row["id"][1:]) in flipped]
    auroc = 1 - (np.sum(ranks) - 12 * 13 / 2) / (12 * 108)
    assert auroc > 0.85
