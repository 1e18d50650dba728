"""Off-prompt and neutral rows: what they are, what is never lent, and what they do to a model that likes length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from preferent.core.augmented import MARK, is_made
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Exchange, Preference, Ranking, user
from preferent.data.augment import off_prompt_rows, without_made
from preferent.data.folds import folds_by_prompt


def pair(prompt: str, a: str, b: str, p_a: float = 1.0, **more: Any) -> Preference:
    return Preference(prompt=user(prompt), response_a=a, response_b=b, p_a=p_a, **more)


TOPICS = ("apples in winter", "how rivers freeze", "the oldest bridge", "a song for two", "fixing a bicycle chain", "names of clouds")


@pytest.fixture
def records() -> list[Preference]:
    return [
        pair(f"Tell me about {topic}", f"good {topic}", f"bad {topic}", id=f"r{k}", weight=2.0, meta={"k": k // 2})
        for k, topic in enumerate(TOPICS)
    ]


def test_an_off_prompt_row_is_own_against_the_preferred_response_of_another_and_a_neutral_one_ties_both_of_another(
    records: list[Preference],
) -> None:
    made = off_prompt_rows(records, ratio=10.0, ties=0.5, weight=0.25)
    own = {record.prompt: {record.response_a, record.response_b} for record in records}
    good = {record.id: record.response_a for record in records}
    both = {record.id: {record.response_a, record.response_b} for record in records}
    assert made.by["rrm.neutral"] + made.by["rrm.off_prompt"] == len(made.added)
    for row in made.added:
        mark = row.meta[MARK]
        texts = {row.response_a, row.response_b}
        if mark["by"] == "rrm.neutral":
            assert row.p_a == 0.5
            assert texts == both[mark["responses_of"]]
            assert not texts & own[row.prompt]
        else:
            winner, loser = (row.response_a, row.response_b) if row.p_a == 1.0 else (row.response_b, row.response_a)
            assert row.p_a in (0.0, 1.0)
            assert winner in own[row.prompt]
            assert loser == good[mark["responses_of"]] not in own[row.prompt]
        assert row.weight == 0.5
        assert row.source == f"augmented/{mark['by']}"
    # Both orders of sides occur, so that the side tells nothing.
    assert {row.p_a for row in made.added} == {0.0, 0.5, 1.0}


def test_ratio_and_ties_are_counts(records: list[Preference]) -> None:
    made = off_prompt_rows(records, ratio=1.5, ties=1 / 3)  # 9 rows, 3 of them ties
    assert made.by == {"rrm.neutral": 3, "rrm.off_prompt": 6}
    assert not made.skipped
    assert off_prompt_rows(records, ties=1.0).by == {"rrm.neutral": 6}
    assert off_prompt_rows(records, ties=0.0).by == {"rrm.off_prompt": 6}


def test_the_seed_decides_and_ids_are_different(records: list[Preference]) -> None:
    assert off_prompt_rows(records, seed=3) == off_prompt_rows(records, seed=3) != off_prompt_rows(records, seed=4)
    assert len({row.id for row in off_prompt_rows(records, ratio=4.0).added}) == len(off_prompt_rows(records, ratio=4.0).added)


def test_near_duplicate_prompts_and_groups_lend_each_other_nothing(records: list[Preference]) -> None:
    twin = pair("tell me about APPLES in winter!", "another good one", "another bad one", id="twin", meta={"k": 0})
    for row in off_prompt_rows([*records, twin], ratio=30.0).added:
        assert not (row.prompt in (records[0].prompt, twin.prompt) and row.meta[MARK]["responses_of"] in ("r0", "twin"))
    kin = {record.id: record.meta["k"] for record in records}
    for row in off_prompt_rows(records, ratio=30.0, groups=[record.meta["k"] for record in records]).added:
        assert kin[row.meta[MARK]["responses_of"]] != row.meta["k"]


def test_a_response_that_stands_under_several_prompts_is_no_negative(records: list[Preference]) -> None:
    refusal = "I cannot help with that."
    refused = [pair(f"Tell me about {topic}", refusal, "well", id=f"x{k}") for k, topic in enumerate(("poison mushrooms", "picking locks"))]
    made = off_prompt_rows([*records, *refused], ratio=20.0)
    lent = [row for row in made.added if row.meta[MARK]["responses_of"].startswith("x")]
    assert not lent


def test_votes_objectives_and_made_rows_make_nothing_and_are_counted(records: list[Preference]) -> None:
    made = off_prompt_rows(records).added
    odd = pair("Tell me about snow", "white", "black", objective="safety")
    found = off_prompt_rows([*records, *made, odd], ratio=1.0)
    assert len(found.added) == len(records)
    assert sum(found.skipped.values()) == len(made) + 1


def test_a_ranking_lends_its_best(records: list[Preference]) -> None:
    ranking = Ranking(prompt=user("Tell me about moss"), responses=("m1", "m2"), ranks=(2.0, 1.0), id="moss")
    rows = [row for row in off_prompt_rows([*records, ranking], ratio=20.0, ties=0.0).added if row.meta[MARK]["responses_of"] == "moss"]
    assert rows
    assert all("m2" in (row.response_a, row.response_b) for row in rows)


def test_what_cannot_be(records: list[Preference]) -> None:
    with pytest.raises(ConfigError, match="ratio=0"):
        off_prompt_rows(records, ratio=0)
    with pytest.raises(ConfigError, match="ties in"):
        off_prompt_rows(records, ties=1.5)
    with pytest.raises(DataError, match="one prompt"):
        off_prompt_rows(records[:1])
    with pytest.raises(DataError, match="one prompt"):
        off_prompt_rows(records, groups=["same"] * len(records))
    with pytest.raises(DataError, match="none of the 1"):
        off_prompt_rows([pair("a", "b", "c", objective="safety")])
    with pytest.raises(DataError, match="2 groups for 6"):
        off_prompt_rows(records, groups=[1, 2])


def test_made_rows_are_not_held_out_and_no_held_out_response_trains(records: list[Preference]) -> None:
    made = list(off_prompt_rows(records, ratio=5.0).added)
    held = [record for record in records if record.meta["k"] == 0]
    kept = [record for record in records if record.meta["k"] != 0]
    train, out, left = without_made([*kept, *made], [*held, *made[:3]])
    texts = {text for record in held for text in (record.response_a, record.response_b)}
    assert out == held
    assert left["held out"] == 3
    assert all(record in train for record in kept)
    assert not any(is_made(row) and texts & {row.response_a, row.response_b} for row in train)
    assert left["with a held-out response"] == len(kept) + len(made) - len(train) > 0


def test_folds_part_prompts_evenly_and_keep_near_duplicates_together(records: list[Preference]) -> None:
    prompts = [record.prompt for record in records] + [user("TELL ME about apples, in winter")]
    fold_N = folds_by_prompt(prompts, 3, seed=0)
    assert set(fold_N.tolist()) == {0, 1, 2}
    assert fold_N[0] == fold_N[-1]
    assert np.bincount(fold_N[:-1]).max() <= 3
    grouped_N = folds_by_prompt(prompts[:-1], 3, seed=1, groups=[0, 0, 1, 1, 2, 2])
    assert grouped_N[::2].tolist() == grouped_N[1::2].tolist()
    assert sorted(grouped_N[::2].tolist()) == [0, 1, 2]
    with pytest.raises(ConfigError, match="folds"):
        folds_by_prompt(prompts, 1, seed=0)


def test_a_model_that_was_taught_to_like_length_looks_at_it_less() -> None:
    """Labels are half about the prompt's own word and half about length. The model has two weights, for just these two: how often the
    word of the prompt occurs, and log length. Off-prompt rows are decided by the word alone, and neutral ones say that length is nothing.
    """
    rng = np.random.default_rng(0)
    words = [f"{chr(97 + i)}{chr(97 + j)}{chr(97 + k)}" for i in range(6) for j in range(6) for k in range(6)]
    records = []
    for word in words:
        hits, sizes = rng.integers(0, 3, 2), rng.integers(4, 20, 2)
        texts = [" ".join([*[word] * hit, *["filler"] * size, str(side)]) for side, (hit, size) in enumerate(zip(hits, sizes, strict=True))]
        logit = 1.5 * (hits[0] - hits[1]) + 3.0 * np.log(sizes[0] / sizes[1])
        records.append(pair(f"Say {word} to me", texts[0], texts[1], float(rng.random() < 1 / (1 + np.exp(-logit)))))

    def length_over_word(rows: list[Preference]) -> float:
        def features(exchange: Exchange) -> list[float]:
            found = exchange.response.split()
            return [float(found.count(exchange.prompt[0].content.split()[1])), float(np.log(len(found)))]

        sides_N22 = np.array([[features(side) for side in row.exchanges()] for row in rows])
        x_N2 = sides_N22[:, 0] - sides_N22[:, 1]
        p_N = np.array([row.p_a for row in rows])
        fit = minimize(lambda w: float(np.sum(np.logaddexp(0, -x_N2 @ w) * p_N + np.logaddexp(0, x_N2 @ w) * (1 - p_N))), np.zeros(2))
        return float(fit.x[1] / fit.x[0])

    plain = length_over_word(records)
    assert plain == pytest.approx(2.0, abs=0.8)  # 3.0 / 1.5 as planted
    assert length_over_word([*records, *off_prompt_rows(records, ratio=2.0).added]) < 0.6 * plain
