"""The built-in probes are what they claim to be, and audit data is made from preferences without losing who beat whom."""

from __future__ import annotations

import numpy as np
import pytest

from preferent.audits.probe import BUILT_IN, audit_data, built_in_probes
from preferent.core.errors import DataError
from preferent.core.records import Preference, Ranking, user


def pair(prompt: str, a: str, b: str, p_a: float, **more: object) -> Preference:
    return Preference.model_validate({"prompt": user(prompt), "response_a": a, "response_b": b, "p_a": p_a, **more})


def test_there_are_enough_probes_of_every_kind_of_use():
    data = built_in_probes()
    assert data.source == BUILT_IN
    assert data.n_prompts >= 60
    assert len(data.exchanges) == 4 * data.n_prompts
    assert {"factual", "howto", "code", "maths", "writing", "advice", "safety"} <= set(data.topics_P)
    assert len(set(data.exchanges)) == len(data.exchanges)
    assert len({exchange.prompt for exchange in data.exchanges}) == data.n_prompts


def test_the_better_probe_is_above_the_worse():
    data = built_in_probes()
    # Four responses in order are six pairs; two prompts have two equally good first responses, which are no pair.
    assert len(data.better_K) == 6 * data.n_prompts - 2
    assert (data.better_K < data.worse_K).all()
    assert (data.prompt_E[data.better_K] == data.prompt_E[data.worse_K]).all()


def test_the_longer_probe_is_not_simply_the_better_one():
    """A probe set in which length told quality could not tell a good scorer from a long-winded one."""
    data = built_in_probes()
    size = np.array([len(exchange.response) for exchange in data.exchanges])
    first, second = data.better_K, data.worse_K
    not_best = np.array([row % 4 != 0 for row in first])
    assert 0.25 < np.mean(size[first] > size[second], where=not_best) < 0.75


def test_every_error_by_hand_changes_the_best_response():
    data = built_in_probes()
    assert {error.kind for error in data.errors} == {"number", "negation", "entity", "unit", "omitted item", "unsafe step"}
    assert len(data.errors) >= 150
    for error in data.errors:
        assert error.row % 4 == 0, "the first of its prompt"
        assert error.wrong.strip() not in {"", data.exchanges[error.row].response.strip()}


def test_preferences_become_data_with_prompts_side_by_side():
    data = audit_data([pair("p", "x", "y", 0.9), pair("q", "u", "v", 0.5), pair("p", "z", "x", 0.2, id="third")])
    assert [(e.prompt[0].content, e.response) for e in data.exchanges] == [("p", "x"), ("p", "y"), ("p", "z"), ("q", "u"), ("q", "v")]
    assert data.prompt_E.tolist() == [0, 0, 0, 1, 1]
    # x beats y; x beats z (p_a = .2 for z); u and v are a tie.
    assert list(zip(data.better_K.tolist(), data.worse_K.tolist(), strict=True)) == [(0, 1), (0, 2)]
    assert len(data.preferences) == 3
    assert data.ids_P == ("prompt 1", "prompt 2")


def test_a_ranking_gives_all_its_pairs():
    data = audit_data([Ranking(prompt=user("p"), responses=("a", "b", "c"), ranks=(2, 1, 2), id="r")])
    assert list(zip(data.better_K.tolist(), data.worse_K.tolist(), strict=True)) == [(1, 0), (1, 2)]


def test_limits_are_kept_and_stated():
    records = [pair(f"p{i}", f"x{j}", f"y{j}", 1.0) for i in range(30) for j in range(4)]
    data = audit_data(records, max_prompts=10, max_responses=3, seed=1)
    assert data.n_prompts == 10
    assert data.n_left_out == 20
    assert np.bincount(data.prompt_E).tolist() == [3] * 10
    # Of x0 y0 x1 only the pair (x0, y0) is whole.
    assert len(data.better_K) == 10
    assert audit_data(records, max_prompts=10, seed=1).exchanges == audit_data(records, max_prompts=10, seed=1).exchanges


def test_no_records_is_an_error_and_none_is_the_built_in_probes():
    with pytest.raises(DataError, match="nothing to audit on"):
        audit_data([])
    assert audit_data().source == BUILT_IN
