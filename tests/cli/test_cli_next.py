"""`preferent next`: the batch is about what is in doubt, whoever is asked has not judged it, and neither row order nor sides matter."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from preferent.cli.main import preferent
from preferent.core.errors import ConfigError, DataError, ExistsError

PEOPLE = [f"p{k}" for k in range(6)]
# Eight responses to one prompt; r0 to r5 are far apart and often compared, r6 and r7 are alike in quality and were hardly judged.
TRUTH = {"r0": -6.0, "r1": -3.5, "r2": -1.0, "r3": 1.5, "r4": 4.0, "r5": 6.5, "r6": 9.0, "r7": 9.1}


def run(*words: object) -> str:
    result = CliRunner().invoke(preferent, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def judgments(seed: int = 0, votes: int = 6) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    names = list(TRUTH)
    for k, a in enumerate(names):
        for b in names[k + 1 :]:
            rare = a in ("r6", "r7") or b in ("r6", "r7")
            asked = rng.choice(PEOPLE, 1 if rare else votes, replace=False)
            for person in asked:
                choice = "a" if rng.random() < 1 / (1 + np.exp(TRUTH[b] - TRUTH[a])) else "b"
                rows.append({"comparison_id": f"{a}-{b}", "annotator_id": person, "choice": choice, "response_a_id": a, "response_b_id": b})
    return rows


def chosen(path: Path, tmp_path: Path, *words: object) -> list[dict[str, Any]]:
    out = tmp_path / "next.jsonl"
    run("next", path, "-o", out, "--force", *words)
    return read(out)


def test_information_gain_finds_the_pair_that_is_in_doubt(tmp_path: Path) -> None:
    path = write(tmp_path / "judgments.jsonl", judgments())
    for strategy in ("information", "order"):
        first = chosen(path, tmp_path, "-n", 1, "--random-share", 0, "--strategy", strategy)[0]
        assert first["comparison_id"] == "r6-r7"
    rows = chosen(path, tmp_path, "-n", 28, "--random-share", 0, "--width", 0.0001)
    gain = {row["comparison_id"]: row["expected_gain"] for row in rows}
    assert gain["r6-r7"] > 10 * gain["r0-r5"]
    assert all(0 <= row["low"] <= row["p_a"] <= row["high"] <= 1 and row["votes_needed"] > 0 for row in rows)
    # Of those, only what could still go either way is open when deciding is enough.
    undecided = {row["comparison_id"] for row in rows if row["low"] < 0.5 < row["high"]}
    deciding = chosen(path, tmp_path, "-n", 28, "--random-share", 0, "--width", 0.0001, "--decide")
    assert {row["comparison_id"] for row in deciding} == undecided
    assert "r6-r7" in undecided
    assert "r0-r5" not in undecided


def test_neither_the_order_of_rows_nor_the_sides_change_the_batch(tmp_path: Path) -> None:
    rows = judgments()
    path = write(tmp_path / "one.jsonl", rows)
    shuffled = write(tmp_path / "two.jsonl", [rows[k] for k in np.random.default_rng(1).permutation(len(rows))])
    other = {"a": "b", "b": "a"}
    swapped = write(
        tmp_path / "three.jsonl",
        [
            {**row, "choice": other[row["choice"]], "response_a_id": row["response_b_id"], "response_b_id": row["response_a_id"]}
            for row in rows
        ],
    )
    for strategy in ("information", "order", "closest", "coverage", "random"):
        words = ("-n", 8, "--strategy", strategy, "--seed", 3, "--per-annotator", 3)
        one, two, three = (chosen(name, tmp_path, *words) for name in (path, shuffled, swapped))
        assert one == two
        assert [(row["comparison_id"], row["annotator_id"]) for row in three] == [
            (row["comparison_id"], row["annotator_id"]) for row in one
        ]
        assert [row["p_a"] for row in three] == pytest.approx([1 - row["p_a"] for row in one], abs=1e-9)
        assert [row["low"] for row in three] == pytest.approx([1 - row["high"] for row in one], abs=1e-9)
    assert chosen(path, tmp_path, "--seed", 1) != chosen(path, tmp_path, "--seed", 2)  # the random slots


def test_budgets_hold_and_nobody_is_asked_what_they_have_judged(tmp_path: Path) -> None:
    rows = judgments()
    path = write(tmp_path / "judgments.jsonl", rows)
    judged = {(row["comparison_id"], row["annotator_id"]) for row in rows}
    asked = [(row["comparison_id"], row["annotator_id"]) for row in chosen(path, tmp_path, "-n", 13, "--per-annotator", 4, "--each", 2)]
    assert len(asked) == len(set(asked)) > 10
    assert not set(asked) & judged
    assert max(Counter(who for _, who in asked).values()) <= 4
    people = tmp_path / "people.jsonl"
    write(people, [{"annotator_id": "new", "budget": 2}, {"annotator_id": "p0", "budget": 1}])
    assert Counter(row["annotator_id"] for row in chosen(path, tmp_path, "-n", 9, "--annotators", people)) == {"new": 2, "p0": 1}
    people.write_text("ann\nbea\n", encoding="utf-8")
    assert {row["annotator_id"] for row in chosen(path, tmp_path, "-n", 4, "--annotators", people, "--per-annotator", 2)} == {"ann", "bea"}
    with pytest.raises(ConfigError, match="budget"):
        chosen(path, tmp_path, "--annotators", people)


PROMPT = "Please explain how the tides of the sea come about."
LONG = "The moon pulls at the water of the sea and the water nearest to it is pulled most so that it bulges out towards the moon and away"


def texts(k: int, extra: str = "") -> str:
    return f"{LONG} {extra}" if k == 0 else f"answer number {k} says {' '.join(f'thing{k}x{j}' for j in range(12))}"


def comparison(name: str, one: str, two: str, prompt: str = PROMPT) -> dict[str, Any]:
    return {"id": name, "prompt": prompt, "response_a": one, "response_b": two}


def test_near_duplicates_are_never_in_one_batch_nor_asked_of_one_person(tmp_path: Path) -> None:
    # The same question in three dresses: once with two words more, once with the sides exchanged as well; and two other questions.
    # Last, one that asks nothing: both sides are the same text.
    rows = [
        comparison("empty", texts(4), texts(4)),
        comparison("plain", texts(0), texts(1)),
        comparison("dressed", texts(0, "Yes indeed."), texts(1)),
        comparison("turned", texts(1), texts(0, "Indeed!")),
        comparison("other", texts(2), texts(3)),
        comparison("elsewhere", texts(0), texts(1), prompt="Write a poem about rain in the mountains, in four short lines."),
    ]
    pairs = write(tmp_path / "pairs.jsonl", rows)
    votes = write(tmp_path / "judgments.jsonl", [{"comparison_id": "plain", "annotator_id": "ann", "choice": "a"}])
    for seed in range(5):
        for strategy in ("information", "order", "random"):
            found = chosen(votes, tmp_path, "--pairs", pairs, "--seed", seed, "--strategy", strategy)
            names = {row["comparison_id"] for row in found}
            assert len(found) == 3
            assert len(names & {"plain", "dressed", "turned"}) == 1
            assert names >= {"other", "elsewhere"}
    given = chosen(votes, tmp_path, "--pairs", pairs, "--per-annotator", 9)
    assert {row["comparison_id"] for row in given} == {"other", "elsewhere"}  # ann has seen the first question, in whatever dress
    assert given[0]["response_a"] in {texts(2), texts(0)}


def test_votes_tell_about_pairs_nobody_judged(tmp_path: Path) -> None:
    # one beats two twenty times, two beats three twenty times: one against three is then nearly sure, and was never asked.
    texts_of = {name: f"{name} {' '.join(f'{name}{j}' for j in range(9))}" for name in ("one", "two", "three")}
    rows = [
        {**comparison(f"{a}-{b}", texts_of[a], texts_of[b]), "comparison_id": f"{a}-{b}", "annotator_id": f"p{k}", "choice": "a"}
        for a, b in (("one", "two"), ("two", "three"))
        for k in range(20)
    ]
    for row in rows:
        del row["id"]
    path = write(tmp_path / "judgments.jsonl", rows)
    found = {row["comparison_id"]: row for row in chosen(path, tmp_path, "--new-pairs", "--width", 0.001)}
    (new,) = [row for name, row in found.items() if name.startswith("new/")]
    p_one = new["p_a"] if new["response_a"] == texts_of["one"] else 1 - new["p_a"]
    assert p_one > found["one-two"]["p_a"] > 0.8
    assert new["n_judgments"] == 0
    bare = write(tmp_path / "bare.jsonl", [{"comparison_id": "c", "annotator_id": "p", "choice": "a"}])
    with pytest.raises(DataError, match="needs to know"):
        chosen(bare, tmp_path, "--new-pairs")


def test_uncertainty_of_a_reward_model_and_of_an_ensemble(tmp_path: Path) -> None:
    path = write(tmp_path / "judgments.jsonl", judgments())
    base = [{"id": name, "reward": value, "std": 0.1} for name, value in TRUTH.items()]
    unsure = write(tmp_path / "unsure.jsonl", [{**row, "std": 4.0} if row["id"] in ("r2", "r3") else row for row in base])
    words = ("-n", 1, "--random-share", 0, "--strategy", "uncertainty", "--width", 0.0001)
    assert chosen(path, tmp_path, *words, "--scores", unsure)[0]["comparison_id"] == "r2-r3"
    plain = [{"id": row["id"], "reward": row["reward"]} for row in base]
    one, two = (write(tmp_path / f"{k}.jsonl", rows) for k, rows in enumerate((plain, [*plain])))
    closest = chosen(path, tmp_path, *words, "--scores", one)[0]["comparison_id"]
    assert closest == "r6-r7"
    write(two, [{**row, "reward": -row["reward"]} if row["id"] == "r1" else row for row in plain])  # they disagree about r1 only
    assert "r1" in chosen(path, tmp_path, *words, "--scores", one, "--scores", two)[0]["comparison_id"]
    both = write(tmp_path / "both.jsonl", [{"id": row["comparison_id"], "rewards": [0.0, 3.0]} for row in judgments()])
    assert chosen(path, tmp_path, *words, "--scores", both)[0]["value"] == pytest.approx(0.1909, abs=1e-3)  # entropy of sigma(3)
    with pytest.raises(ConfigError, match="needs rewards"):
        chosen(path, tmp_path, *words)
    with pytest.raises(DataError, match="no scores for comparison"):
        chosen(path, tmp_path, *words, "--scores", write(tmp_path / "few.jsonl", plain[:3]))


def test_a_scorer_reads_the_texts(tmp_path: Path) -> None:
    # `length` states no std: closest lengths are asked first. 10 against 11 characters, not 10 against 90.
    rows = [comparison("near", "a" * 10, "b" * 11), comparison("far", "c" * 10, "d" * 90)]
    pairs = write(tmp_path / "pairs.jsonl", rows)
    votes = write(tmp_path / "judgments.jsonl", [{"comparison_id": "far", "annotator_id": "ann", "choice": "a"}])
    words = ("--pairs", pairs, "--strategy", "uncertainty", "--model", "length", "-n", 1, "--random-share", 0)
    assert chosen(votes, tmp_path, *words)[0]["comparison_id"] == "near"


def test_what_the_command_says(tmp_path: Path) -> None:
    path = write(tmp_path / "judgments.jsonl", judgments())
    out = tmp_path / "out.jsonl"
    told = json.loads(run("next", path, "-o", out, "-n", 3, "--json"))
    assert [row["comparison_id"] for row in told["questions"]] == [row["comparison_id"] for row in read(out)]
    assert told["candidates"] == 28
    with pytest.raises(ExistsError):
        run("next", path, "-o", out)
    shown = run("next", path, "-o", out, "-n", 3, "--force")
    assert "still needs" in shown
    assert "r6-r7" in shown
    nothing = run("next", path, "-o", out, "--width", 0.999, "--force")
    assert "no question is open" in nothing
    assert out.read_text(encoding="utf-8") == ""
    bare = [{key: row[key] for key in ("comparison_id", "annotator_id", "choice")} for row in judgments()]
    told = json.loads(run("next", write(tmp_path / "bare.jsonl", bare), "-o", out, "--json", "--force"))
    assert any("every comparison stands alone" in note for note in told["notes"])
    twisted = [*judgments(), {**judgments()[0], "response_a_id": "else", "annotator_id": "late"}]
    twisted_path = write(tmp_path / "twisted.jsonl", twisted)
    with pytest.raises(DataError, match=r"twisted\.jsonl.*'r0-r1'"):
        run("next", twisted_path, "-o", out, "--force")


def test_every_kind_of_tie_counts_as_one(tmp_path: Path) -> None:
    rows = judgments()
    for row, kind in zip(rows[::5], ("tie", "both_good", "both_bad") * len(rows), strict=False):
        row["choice"] = kind
    plain = [{**row, "choice": "tie" if row["choice"].startswith("both") else row["choice"]} for row in rows]
    found = [
        chosen(write(tmp_path / name, kinds), tmp_path, "-n", 5, "--random-share", 0)
        for name, kinds in (("kinds.jsonl", rows), ("plain.jsonl", plain))
    ]
    assert found[0] == found[1]
    told = json.loads(run("annotators", tmp_path / "kinds.jsonl", "--json"))
    assert len(told["people"]) == len(PEOPLE)


def test_a_choice_that_is_none_is_named(tmp_path: Path) -> None:
    rows = judgments()
    rows[3]["choice"] = "left"
    with pytest.raises(DataError, match=r"j\.jsonl:4: .*'left'") as error:
        chosen(write(tmp_path / "j.jsonl", rows), tmp_path)
    assert "skip" in str(error.value)
