"""`preferent augment`, and `preferent train --augment.*`: rows are made from the training part and never held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from preferent.cli.inputs import Reading
from preferent.cli.main import preferent
from preferent.cli.train_data import read_training_data
from preferent.core.augmented import MARK, is_made
from preferent.core.errors import ConfigError, DataError, ExistsError
from preferent.core.records import Preference, user
from preferent.data.gate import check
from preferent.data.write import write_preferences
from preferent.training.config import load_config

WORDS = ("apples", "rivers", "bridges", "songs", "bicycles", "clouds", "lanterns", "mosses", "harbours", "maps", "kettles", "owls")


def run(*words: object) -> str:
    result = CliRunner().invoke(preferent, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [
        Preference(
            prompt=user(f"Please explain what {word} are good for"),
            response_a=f"A fine reply about {word}. It says what they are for, with care. It ends well.",
            response_b=f"{word} are things. I would not know. Ask somebody else.",
            p_a=1.0,
            id=f"p{k}",
            meta={"topic": k % 4},
        )
        for k, word in enumerate(WORDS)
    ]
    write_preferences(tmp_path / "train.jsonl", rows)
    return tmp_path / "train.jsonl"


def made_rows(path: Path) -> list[Preference]:
    return [record for record in check(path).records() if isinstance(record, Preference) and is_made(record)]


def test_the_file_holds_the_given_rows_first_and_then_the_made_ones(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "more.jsonl"
    told = json.loads(run("augment", source, "-o", out, "--kind", "rrm", "--ties", "0.5", "--json"))
    assert told["by"] == {"rrm.neutral": 6, "rrm.off_prompt": 6}
    assert (told["given"], told["written"]) == (12, 24)
    given = list(check(source).records())
    assert list(check(out).records())[:12] == given
    assert len(made_rows(out)) == 12
    run("augment", source, "-o", tmp_path / "only.jsonl", "--kind", "neutral", "--only-new", "--ratio", "0.5")
    assert [row.p_a for row in check(tmp_path / "only.jsonl").records() if isinstance(row, Preference)] == [0.5] * 6


def test_the_group_key_keeps_topics_from_lending_to_themselves(source: Path, tmp_path: Path) -> None:
    run("augment", source, "-o", tmp_path / "o.jsonl", "--kind", "rrm", "--ratio", "8", "--group-key", "topic")
    for row in made_rows(tmp_path / "o.jsonl"):
        assert int(row.meta[MARK]["responses_of"][1:]) % 4 != row.meta["topic"]
    with pytest.raises(ConfigError, match="no such key"):
        run("augment", source, "-o", tmp_path / "o2.jsonl", "--kind", "rrm", "--group-key", "subject")


def test_edits_by_name_and_from_an_audit_make_the_same(source: Path, tmp_path: Path) -> None:
    run("augment", source, "-o", tmp_path / "a.jsonl", "--kind", "counterfactual", "--edits", "length.filler,hollow.truncated")
    findings = [
        {"audit": "counterfactual", "name": "length.filler", "verdict": "finding"},
        {"audit": "counterfactual", "name": "style.emoji", "verdict": "clear"},
        {"audit": "counterfactual", "name": "hollow.truncated", "verdict": "finding"},
    ]
    (tmp_path / "audit.json").write_text(json.dumps({"findings": findings}), encoding="utf-8")
    run("augment", source, "-o", tmp_path / "b.jsonl", "--kind", "counterfactual", "--from-audit", tmp_path / "audit.json")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert {row.meta[MARK]["by"] for row in made_rows(tmp_path / "a.jsonl")} == {"edit.length.filler", "edit.hollow.truncated"}


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (["--kind", "counterfactual"], ConfigError, "which edits"),
        (["--kind", "counterfactual", "--edits", "lenth"], ConfigError, "did you mean 'length'"),
        (["--kind", "counterfactual", "--edits", "length", "--ties", "0.5"], click.UsageError, "--ties does not go with"),
        (["--kind", "rrm", "--edits", "length"], click.UsageError, "--edits does not go with"),
        (["--kind", "counterfactual", "--from-audit", "nowhere.json"], DataError, "not an audit"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(source: Path, tmp_path: Path, words: list[str], error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        run("augment", source, "-o", tmp_path / "o.jsonl", *words)
    assert not (tmp_path / "o.jsonl").exists()


def test_nothing_is_overwritten(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ExistsError):
        run("augment", source, "-o", source, "--kind", "rrm")
    assert len(list(check(source).records())) == 12


def read(source: Path, tmp_path: Path, **settings: str) -> Any:
    config = load_config(None, {"base": "tiny", "held_out": "0.25", **settings})
    return read_training_data([str(source)], config, Reading(tmp_path / "run", None, None, "auto", False), main=True)


@pytest.mark.parametrize("kind", ["rrm", "neutral", "counterfactual"])
def test_a_run_augments_its_training_part_alone(source: Path, tmp_path: Path, kind: str) -> None:
    extra = {"augment.edits": "length,hollow.other_prompt"} if kind == "counterfactual" else {}
    plain = read(source, tmp_path)
    data = read(source, tmp_path, **{"augment.kind": kind, "augment.ratio": "2", **extra})
    assert data.held_out == plain.held_out
    n = len(plain.records)
    assert data.records[:n] == plain.records
    made = data.records[n:]
    assert len(made) > n
    assert all(is_made(row) for row in made)
    held = {text for record in data.held_out for text in (record.response_a, record.response_b)}
    assert not any(held & {row.response_a, row.response_b} for row in made)
    assert {row.prompt for row in made}.isdisjoint(record.prompt for record in data.held_out)
    assert any("rows made" in note for note in data.notes)


def test_rows_that_came_made_in_a_file_are_not_held_out_and_bring_no_held_out_response(source: Path, tmp_path: Path) -> None:
    run("augment", source, "-o", tmp_path / "more.jsonl", "--kind", "rrm", "--ratio", "3")
    plain, data = read(source, tmp_path), read(tmp_path / "more.jsonl", tmp_path)
    assert {record.id for record in data.held_out} == {record.id for record in plain.held_out}
    held = {text for record in data.held_out for text in (record.response_a, record.response_b)}
    made = [row for row in data.records if is_made(row)]
    assert made
    assert not any(held & {row.response_a, row.response_b} for row in made)
    assert any("not held out" in note for note in data.notes)


def test_votes_are_nobody_s_to_make(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody's vote"):
        read(source, tmp_path, **{"augment.kind": "rrm", "votes.kind": "joint"})


def test_a_run_trains_on_what_was_made_and_keeps_the_setting(source: Path, tmp_path: Path) -> None:
    run("train", source, "-o", tmp_path / "run", "--base", "tiny", "--max-steps", "2", "--threads", "1", "--max-length", "64",
        "--held-out", "0.25", "--augment.kind", "rrm")  # fmt: skip
    assert '[augment]\nkind = "rrm"' in (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
