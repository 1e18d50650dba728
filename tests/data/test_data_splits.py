"""Prompts that say the same stand on one side; prompts that share a template do not stick together."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Message, user
from preferent.data.near import near_duplicates, normal
from preferent.data.splits import split_by_prompt

WORDS = [f"{a}{b}{c}" for a in ("ka", "lo", "mi", "tu") for b in ("ra", "se", "ni", "po", "du") for c in ("", "n", "s", "x", "l")]


def sentence(rng: random.Random, n: int) -> str:
    return " ".join(rng.choices(WORDS, k=n))


def clusters(texts: list[str]) -> list[int]:
    return near_duplicates([normal(text) for text in texts]).tolist()


def test_case_spacing_and_punctuation_do_not_part_a_prompt():
    rng = random.Random(0)
    prompts = [user(sentence(rng, 8)) for _ in range(200)]
    variants = [user("  " + prompt[0].content.upper().replace(" ", ",\n") + "?!") for prompt in prompts]
    for seed in range(3):
        out = split_by_prompt(prompts + variants, held_out=0.25, seed=seed)
        assert (out[:200] == out[200:]).all()
        assert out.mean() == pytest.approx(0.25)


def test_small_edits_of_longer_prompts_are_found():
    rng = random.Random(1)
    texts = [sentence(rng, 30) for _ in range(300)]
    edited = []
    for text in texts:
        words = text.split()
        words[rng.randrange(30)] = "changed"
        edited.append(" ".join(words))
    # One of 30 words changed: shingles shared (29 + 27) of (31 + 31) at the worst, similarity > 0.85.
    found = clusters(texts + edited)
    assert found[300:] == found[:300]
    assert len(set(found)) == 300


def test_a_template_does_not_join_what_fills_it():
    rng = random.Random(2)
    filled = [f"Topic: {sentence(rng, 2)} Stance: {sentence(rng, 1)}. Write a convincing argument for this stance." for _ in range(400)]
    filled = list(dict.fromkeys(filled))
    assert len(set(clusters(filled))) == len(filled)
    few = [
        "Topic: plastic bottles Stance: ban. Write a convincing argument",
        "Topic: home schooling Stance: allow. Write a convincing argument",
    ]
    assert clusters(few) == [0, 1]


def test_short_prompts_do_not_collapse():
    texts = ["hi", "yo", "why", "how are you", "who are you", "???", "...", "1+1", "1+2", ""]
    assert len(set(clusters(texts))) == len({normal(text) for text in texts})


def test_words_without_spaces_are_compared_by_character():
    long = "东京是日本的首都也是世界上人口最多的城市之一请介绍一下它的历史"
    assert clusters([long, long.replace("介绍", "说明"), "北京是中国的首都"]) == [0, 0, 2]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 60), held_out=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_share_order_and_seed(n: int, held_out: float, seed: int):
    rng = random.Random(n)
    prompts = [user(sentence(rng, 12) + f" {i}") for i in range(n)]
    out = split_by_prompt(prompts, held_out=held_out, seed=seed)
    # Clusters of one: the share is met to the nearest prompt, with one at least on each side.
    assert abs(out.sum() - held_out * n) <= 0.5 + 1e-9 or out.sum() in (1, n - 1)
    assert 0 < out.sum() < n
    order = np.random.default_rng(seed).permutation(n)
    again = split_by_prompt([prompts[i] for i in order] * 2, held_out=held_out, seed=seed)
    assert (again[:n] == out[order]).all()
    assert (again[n:] == out[order]).all()


def test_seeds_differ_and_rows_of_a_prompt_stay_together():
    rng = random.Random(3)
    prompts = [user(sentence(rng, 12)) for _ in range(50)]
    rows = [prompts[i] for i in rng.choices(range(50), k=1000)]
    one, two = (split_by_prompt(rows, held_out=0.3, seed=seed) for seed in (0, 1))
    assert (one != two).any()
    assert {rows[i] for i in np.flatnonzero(one)}.isdisjoint({rows[i] for i in np.flatnonzero(~one)})


def test_roles_do_not_part_a_conversation_but_its_turns_count():
    talk = (Message(role="user", content="tell me about the history of the city of lyon"), Message(role="assistant", content="gladly"))
    other = (*talk, Message(role="user", content="and now something completely different about birds in the arctic circle please"))
    out = split_by_prompt([talk, other, talk], held_out=0.5, seed=0)
    assert out[0] == out[2] != out[1]


def test_groups_are_held_out_whole():
    prompts = [user("Tell me something funny.")] * 100
    groups = [i % 10 for i in range(100)]
    out = split_by_prompt(prompts, held_out=0.3, seed=0, groups=groups)
    assert out.sum() == 30
    assert len({groups[i] for i in np.flatnonzero(out)}) == 3
    with pytest.raises(DataError, match="groups="):
        split_by_prompt(prompts, held_out=0.3, seed=0)
    with pytest.raises(DataError, match="one group"):
        split_by_prompt(prompts, held_out=0.3, seed=0, groups=["a"] * 100)
    with pytest.raises(DataError, match="2 groups for 100"):
        split_by_prompt(prompts, held_out=0.3, seed=0, groups=["a", "b"])


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_outside_zero_and_one_is_refused(share: float):
    with pytest.raises(ConfigError, match="held_out"):
        split_by_prompt([user("a"), user("b")], held_out=share, seed=0)


def test_no_rows_are_no_split():
    with pytest.raises(DataError, match="the 0 rows"):
        split_by_prompt([], held_out=0.5, seed=0)
