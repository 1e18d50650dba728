"""Contamination against planted overlaps: what must be found, what must not, and the arithmetic of the share."""

from __future__ import annotations

import numpy as np

from preferent.audits.contamination import contamination
from preferent.core.ngrams import sketch_prompts
from preferent.core.records import Message, user

RNG = np.random.default_rng(7)
VOCABULARY = [f"w{k}" for k in range(20_000)]


def sentence(n: int) -> str:
    return " ".join(RNG.choice(VOCABULARY, n))


TRAIN = [sentence(40) for _ in range(200)]
FRESH = [sentence(40) for _ in range(100)]
SKETCH = sketch_prompts(map(user, TRAIN))


def marked(text: str) -> bool:
    return bool(contamination([user(text)], SKETCH).mask_N[0])


def test_fresh_prompts_are_clean_and_training_prompts_are_not():
    found = contamination([*map(user, FRESH), *map(user, TRAIN[:25])], SKETCH)
    assert found.mask_N.tolist() == [False] * 100 + [True] * 25
    assert (found.n_whole, found.n_windows, found.n_prompts) == (25, 0, 125)
    assert found.share.value == 25 / 125
    assert "no interval" in found.share.method


def test_spelling_punctuation_and_roles_do_not_hide_a_prompt():
    assert marked(TRAIN[0].upper().replace(" ", ",  ") + "!")
    as_system = (Message(role="system", content=TRAIN[1]),)
    assert contamination([as_system], SKETCH).n_whole == 1


def test_half_of_the_windows_is_the_bound():
    """A prompt of 40 words has 33 windows. Its first 23 words plus 17 fresh ones keep 16 of 33 (48 %); its first 24 keep 17 (52 %)."""
    words = TRAIN[2].split()
    assert not marked(" ".join(words[:23]) + " " + sentence(17))
    assert marked(" ".join(words[:24]) + " " + sentence(17 - 1))
    overlap = contamination([user(" ".join(words[:24]) + " " + sentence(16))], SKETCH).overlap_N[0]
    assert overlap == 17 / 33
    touched = contamination([user(" ".join(words[:23]) + " " + sentence(17)), user(FRESH[1])], SKETCH)
    assert (touched.n_windows, touched.n_touched) == (0, 1)
    assert "1 more share at least one window" in touched.render()


def test_a_prompt_quoted_inside_a_longer_training_prompt_is_found():
    sketch = sketch_prompts([user(f"{sentence(60)} {FRESH[0]} {sentence(60)}")])
    found = contamination([user(FRESH[0])], sketch)
    assert (found.n_whole, found.n_windows) == (0, 1)


def test_short_prompts_are_found_only_whole_and_are_counted_as_blind():
    sketch = sketch_prompts([user("What is the capital of France?"), user(sentence(20) + " what is the capital of spain")])
    found = contamination([user("what is the capital of france"), user("what is the capital of spain")], sketch)
    assert found.mask_N.tolist() == [True, False]
    assert found.n_blind == 2
    assert np.isnan(found.overlap_N).all()


def test_the_benchmarks_own_boilerplate_is_not_overlap():
    """60 questions end in the same 20 words, which one training prompt also has; only the question counts."""
    boilerplate = sentence(20)
    sketch = sketch_prompts([user(f"{sentence(10)} {boilerplate}"), user(f"{FRESH[3]} {boilerplate}")])
    found = contamination([user(f"{sentence(12)} {boilerplate}") for _ in range(60)] + [user(f"{FRESH[3]} {boilerplate} ok")], sketch)
    assert found.mask_N.tolist() == [False] * 60 + [True]


def test_repeated_prompts_are_one_prompt():
    prompts = [user(TRAIN[0])] * 9 + [user(FRESH[0])]
    found = contamination(prompts, SKETCH)
    assert found.share.value == 0.5
    assert found.mask_N.sum() == 9


def test_a_sampled_sketch_still_finds_what_it_can():
    """200 prompts x 33 windows = 6600 hashes, held to 500: 1/16 of them. Whole prompts are all kept; a copy with one added word is found
    when any of its windows was sampled: 1 - (15/16)^33 = 88 %."""
    sketch = sketch_prompts(map(user, TRAIN), max_hashes=500)
    assert sketch.window_share == 1 / 16
    assert contamination(list(map(user, TRAIN)), sketch).n_whole == 200
    near = contamination([user(f"{text} zzz") for text in TRAIN], sketch)
    # 200 draws of 0.88: mean 176, standard deviation 4.6. Nearly all that are not found have no sampled window, which is said.
    assert 176 - 23 <= near.n_windows <= 176 + 23
    assert near.n_blind + near.n_windows >= 190
    assert "overlap is an estimate" in near.render()
    assert not contamination(list(map(user, FRESH)), sketch).mask_N.any()


def test_the_stated_chance_of_a_false_mark():
    """33 windows looked up among 6600 hashes of 64 bits, and one whole prompt among 200: (33 x 6600 + 200) / 2^64 = 1.18e-14."""
    found = contamination([user(FRESH[0])], SKETCH)
    assert found.false_match == 33 * 6600 / 2**64 + 200 / 2**64


def test_no_prompts_and_an_empty_sketch():
    assert contamination([], SKETCH).n_prompts == 0
    assert not contamination([user(FRESH[0])], sketch_prompts([])).mask_N.any()


def test_the_finding():
    assert contamination([user(TRAIN[0]), user(FRESH[0])], SKETCH).finding("X").verdict == "finding"
    assert contamination([user(FRESH[0])], SKETCH).finding("X").verdict == "clear"
    assert contamination([user(TRAIN[0])], SKETCH).to_dict()["n_whole"] == 1
