"""Ratings in: every shape, every refusal, what is merged, and files that hold pairs as well."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from preferent.core.errors import DataError
from preferent.core.records import Preference, Rating, user
from preferent.data.ratings import check_all, rating_rows
from preferent.data.ratings_ledger import MixedLedger, RatingLedger

SHARED = Path(os.environ.get("PREFERENT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def rating(**more: Any) -> dict[str, Any]:
    return {"prompt": "Why is the sky blue?", "response": "Rayleigh scattering.", "values": {"accuracy": 4, "tone": 2.5}, **more}


def test_native_rows_and_what_is_missing_is_absent(tmp_path: Path) -> None:
    rows = [rating(id="r1", annotator_id="ann", source="lab"), rating(response="Magic.", values={"accuracy": 1, "tone": None})]
    checked = check_all(write(tmp_path / "a.jsonl", rows))
    first, second = checked.records()
    assert first == Rating(
        prompt=user("Why is the sky blue?"),
        response="Rayleigh scattering.",
        values={"accuracy": 4.0, "tone": 2.5},
        id="r1",
        annotator_id="ann",
        source="lab",
    )
    assert isinstance(second, Rating)
    assert second.values == {"accuracy": 1.0}
    ledger = checked.ledger
    assert isinstance(ledger, RatingLedger)
    # accuracy: 4 and 1: mean 2.5, sd 1.5. tone: one rating, one missing.
    assert [(c.name, c.n, c.mean, c.sd, c.low, c.high) for c in ledger.objectives] == [
        ("accuracy", 2, 2.5, 1.5, 1.0, 4.0),
        ("tone", 1, 2.5, 0.0, 2.5, 2.5),
    ]
    assert "not rated: 1" in ledger.render()
    again = check_all(write(tmp_path / "b.jsonl", rating_rows([r for r in checked.records() if isinstance(r, Rating)])))
    assert list(again.records()) == list(checked.records())


@pytest.mark.parametrize(
    ("row", "reason", "said"),
    [
        (rating(values={"accuracy": float("nan")}), "bad_rating", "accuracy"),
        (rating(values={"accuracy": float("inf")}), "bad_rating", "finite"),
        (rating(values={"accuracy": "good"}), "bad_rating", "good"),
        (rating(values={"accuracy": True}), "bad_rating", "true"),
        (rating(values={" ": 1}), "bad_rating", "without a name"),
        (rating(values={}), "no_ratings", "no objective"),
        (rating(values={"tone": None}), "no_ratings", "no objective"),
        (rating(values=[1, 2]), "wrong_type", "values"),
        (rating(annotater_id="x"), "unknown_keys", "did you mean 'annotator_id'"),
        (rating(response=" "), "empty_response", "no text"),
        (rating(prompt=[{"role": "system", "content": "Be nice."}]), "empty_prompt", "user turn"),
        ({"response": "x", "values": {"tone": 1}}, "missing_keys", "prompt"),
        ({"prompt": "x", "response": "y", "score": 3}, "unknown_shape", "rating (prompt, response, values)"),
    ],
)
def test_what_cannot_be_read_honestly_is_refused_with_its_place(tmp_path: Path, row: dict[str, Any], reason: str, said: str) -> None:
    path = write(tmp_path / "a.jsonl", [rating(), row])
    checked = check_all(path)
    refusals = checked.ledger.to_dict()["refusals"]
    assert [(found["where"], found["reason"]) for found in refusals] == [(f"{path}:2", reason)]
    assert said in refusals[0]["detail"]
    assert len(list(checked.records())) == 1
    with pytest.raises(DataError, match="1 of 2 rows refused"):
        check_all(path, strict=True)
    with pytest.raises(DataError, match="no row can be used"):
        check_all(write(tmp_path / "b.jsonl", [row]))


def test_ratings_of_one_response_become_one_with_the_mean_of_each_objective(tmp_path: Path) -> None:
    rows = [
        rating(annotator_id="a"),
        rating(annotator_id="a"),
        rating(annotator_id="b", values={"accuracy": 1, "safety": 5}),
        rating(response="Other."),
    ]
    checked = check_all(write(tmp_path / "a.jsonl", rows))
    first, _ = checked.records()
    assert isinstance(first, Rating)
    # accuracy over three rows: (4 + 4 + 1) / 3 = 3; tone over the two that rate it; safety over one.
    assert first.values == {"accuracy": 3.0, "tone": 2.5, "safety": 5.0}
    assert first.annotator_id is None
    ledger = checked.ledger
    assert isinstance(ledger, RatingLedger)
    assert (ledger.rows, ledger.kept, ledger.merged_exact, ledger.merged_averaged, ledger.refused) == (4, 2, 1, 1, 0)


def test_one_file_of_pairs_and_ratings_in_any_order(tmp_path: Path) -> None:
    pair = {"prompt": "p", "response_a": "a", "response_b": "b", "p_a": 1.0, "objective": "tone"}
    rows = [rating(), pair, "{half", rating(response="Magic."), {**pair, "objective": "safety"}]
    checked = check_all(write(tmp_path / "mixed.jsonl", rows))
    records = list(checked.records())
    assert [type(record) for record in records] == [Preference, Preference, Rating, Rating]
    assert [record.objective for record in records if isinstance(record, Preference)] == ["tone", "safety"]
    ledger = checked.ledger
    assert isinstance(ledger, MixedLedger)
    # Every row is in one of the two accounts.
    assert ledger.pairs.rows + ledger.ratings.rows == 5
    assert (ledger.pairs.kept, ledger.ratings.kept, ledger.refused) == (2, 2, 1)
    assert "rows of ratings" in ledger.render()
    assert list(checked.records()) == records


def test_a_file_without_ratings_is_as_it_was(tmp_path: Path) -> None:
    from preferent.data.gate import check

    path = write(tmp_path / "pairs.jsonl", [{"prompt": "p", "response_a": "a", "response_b": "bb", "p_a": 0.7}])
    assert check_all(path).ledger.render() == check(path).ledger.render()
    assert list(check_all(path, format="native").records()) == list(check(path).records())


def test_helpsteer2(tmp_path: Path) -> None:
    row = {
        "prompt": "c#\n<extra_id_1>Assistant\nWhat of it?\n<extra_id_1>User\nPros and cons",
        "response": "Pros: ...",
        "helpfulness": 3,
        "correctness": 4,
        "coherence": 4,
        "complexity": 2,
        "verbosity": None,
    }
    (record,) = check_all(write(tmp_path / "h.jsonl", [row])).records()
    assert isinstance(record, Rating)
    assert [(turn.role, turn.content) for turn in record.prompt] == [
        ("user", "c#"),
        ("assistant", "What of it?"),
        ("user", "Pros and cons"),
    ]
    assert record.values == {"helpfulness": 3.0, "correctness": 4.0, "coherence": 4.0, "complexity": 2.0}


def test_ultrafeedback_by_aspect_when_asked_for(tmp_path: Path) -> None:
    def completion(text: str, **ratings: str) -> dict[str, Any]:
        return {"response": text, "annotations": {name: {"Rating": value} for name, value in ratings.items()}, "overall_score": 7.0}

    row = {
        "instruction": "i",
        "completions": [completion("x", honesty="4", truthfulness="N/A"), completion("y", honesty="2"), completion("z")],
    }
    path = write(tmp_path / "u.jsonl", [row])
    checked = check_all(path, format="ultrafeedback_ratings")
    assert [(r.response, r.values) for r in checked.records() if isinstance(r, Rating)] == [
        ("x", {"honesty": 4.0}),
        ("y", {"honesty": 2.0}),
    ]
    assert checked.ledger.to_dict()["notes"] == {"completions without a rated aspect": 1}
    # By itself such a row stays a ranking.
    assert type(next(iter(check_all(path).records()))).__name__ == "Ranking"


def test_the_summaries_rated_by_experts() -> None:
    path = SHARED / "summeval.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    checked = check_all(path)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = sum(1 for _ in lines)
    ledger = checked.ledger
    assert isinstance(ledger, RatingLedger)
    assert [counts.name for counts in ledger.objectives] == ["coherence", "consistency", "fluency", "relevance"]
    assert ledger.kept + ledger.refused + ledger.merged == rows == 1600
