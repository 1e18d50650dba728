"""The n-gram reward model: a planted rule of each kind is learned, the contract of scorers holds, averaging is exact."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from preferent.core.contracts import check_scorer
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Exchange, Preference, user
from preferent.core.scorer import Scorer
from preferent.lab.experiments.treatments import resampled
from preferent.lab.ngrams import NgramCounts, NgramTrainer, average, ngrams
from preferent.lab.policy import Policy
from preferent.lab.replies import RepliesWorld

WORDS = ("red", "blue", "green", "tin", "oak", "ice")


def learned(rule, n: int = 400, seed: int = 0) -> tuple[float, float]:
    """(accuracy on training pairs, accuracy on fresh pairs) of a model taught `rule(prompt, response)`."""
    rng = np.random.default_rng(seed)

    def text(k: int) -> str:
        return " ".join(rng.choice(WORDS, k))

    pairs = []
    while len(pairs) < 2 * n:
        prompt, a, b = f"notes: {text(3)}\nplease say {text(1)}", text(4), text(4)
        gap = rule(prompt, a) - rule(prompt, b)
        if gap:
            pairs.append(Preference(prompt=user(prompt), response_a=a, response_b=b, p_a=float(gap > 0)))
    scorer = NgramTrainer()(pairs[:n], 0, prior=0.1)
    margin = np.array([np.subtract(*scorer.score(pair.exchanges()).reward) for pair in pairs])
    right = (margin > 0) == np.array([pair.p_a > 0.5 for pair in pairs])
    return float(right[:n].mean()), float(right[n:].mean())


@pytest.mark.parametrize(
    "rule",
    [
        lambda prompt, response: Counter(response.split())["red"],
        lambda prompt, response: sum(word in prompt.split("\n")[0].split() for word in response.split()),
        lambda prompt, response: Counter(response.split())[prompt.split()[-1]],
        lambda prompt, response: f" {response} ".count(" tin oak "),
    ],
    ids=["a word", "copied from the prompt", "what was asked for", "a pair of words"],
)
def test_learns_each_kind_of_rule_it_has_features_for(rule) -> None:
    trained, fresh = learned(rule)
    assert trained > 0.95
    assert fresh > 0.85


def test_ngrams_by_hand() -> None:
    assert ngrams("A cat, a cat.") == ["a", "cat", ",", "a", "cat", ".", "a cat", "cat ,", ", a", "a cat", "cat ."]
    counts = NgramCounts()
    matrix = counts.matrix(["a b a", "b"]).toarray()
    assert dict(zip(counts.ids, matrix[0].tolist(), strict=True)) == {"a": 2, "b": 1, "a b": 1, "b a": 1}
    assert matrix[1].tolist() == [0, 1, 0, 0]


def world_pairs(n: int, seed: int = 0) -> list[Preference]:
    world, rng = RepliesWorld(seed), np.random.default_rng(seed)
    pairs = []
    for prompt in world.prompts(n):
        a, b = Policy().reply(prompt, rng), Policy().reply(prompt, rng)
        gap = np.subtract(*world.gold_total([Exchange(prompt=prompt, response=text) for text in (a, b)]))
        pairs.append(Preference(prompt=prompt, response_a=a, response_b=b, p_a=float((np.sign(gap) + 1) / 2)))
    return pairs


def test_it_is_a_scorer_whose_rewards_stand_alone() -> None:
    pairs = world_pairs(80)
    scorer = NgramTrainer()(pairs, 0)
    assert isinstance(scorer, Scorer)
    exchanges = [exchange for pair in pairs[:12] for exchange in pair.exchanges()]
    check_scorer(scorer, [*exchanges, Exchange(prompt=exchanges[0].prompt, response="words never seen: zyx")], tolerance=1e-9)
    # The counts grow with every text and every fit; a fitted model does not notice.
    before = scorer.score(exchanges).reward
    scorer.score([Exchange(prompt=user("quite another\nprompt"), response="with new words")])
    assert scorer.score(exchanges).reward == pytest.approx(before)


def test_swapping_sides_and_doubling_weight_are_what_they_should_be() -> None:
    pairs = world_pairs(60)
    exchanges = [pair.exchanges()[0] for pair in pairs[:10]]
    base = NgramTrainer()(pairs, 0).score(exchanges).reward
    assert NgramTrainer()([pair.swap() for pair in pairs], 1).score(exchanges).reward == pytest.approx(base, abs=1e-3)
    twice = NgramTrainer()([*pairs, *pairs], 0).score(exchanges).reward
    heavy = NgramTrainer()([pair.model_copy(update={"weight": 2.0}) for pair in pairs], 0).score(exchanges).reward
    assert heavy == pytest.approx(twice, abs=1e-3)


def test_averaged_weights_are_averaged_rewards() -> None:
    pairs, trainer = world_pairs(60), NgramTrainer()
    members = [trainer(resampled(pairs, np.random.default_rng(k)), k) for k in range(3)]
    exchanges = [exchange for pair in pairs for exchange in pair.exchanges()]
    mean = np.mean([member.score(exchanges).reward for member in members], axis=0)
    assert average(members).score(exchanges).reward == pytest.approx(mean)
    with pytest.raises(ConfigError, match="one trainer"):
        average([members[0], NgramTrainer()(pairs[:5], 0)])


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="no preferences"):
        NgramTrainer()([], 0)
    with pytest.raises(ConfigError, match="prior=0"):
        NgramTrainer()(world_pairs(3), 0, prior=0)
    with pytest.raises(ConfigError, match="unknown settings"):
        NgramTrainer()(world_pairs(3), 0, epochs=2)
