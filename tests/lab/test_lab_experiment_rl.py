"""Experiment 2: curves compared at the same KL by hand, rewards on their frozen scale, and the whole with TRL at small size."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from lab_parts import parts

from preferent.core.errors import ConfigError
from preferent.core.records import Exchange, Floats, Prompt, user
from preferent.core.scorer import FakeScorer, Scorer
from preferent.lab.experiments import rl
from preferent.lab.experiments.registry import load
from preferent.lab.experiments.rl import Ground, Paid, Plan, ReinforcementLearning, Snapshot, run_seeds, short_prompts
from preferent.lab.experiments.rl_compare import Run, change, compare, first_crossing, gold_at, rl_law
from preferent.lab.experiments.rl_outcome import keeps, outcome
from preferent.lab.requests import read_request
from preferent.optimize.shaping import par

SMALL = ReinforcementLearning(
    seeds=(0,), comparisons=100, members=2, prior=8.0, taught=1280, teach_rate=1e-2, width=32, layers=1, max_tokens=32, steps=9,
    prompts=6, replies=8, trained=8, rate=5e-3, every=3, watched=12, readings=2, references=4, kl_penalty=1.0,
    arms=(rl.UNPROTECTED, "KL penalty"),
)  # fmt: skip


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def flat_run(kl: Sequence[float], gold: Sequence[float]) -> Run:
    """A run whose four prompts all have the same gold."""
    return Run(np.array(kl), np.tile(np.array(gold)[:, None], (1, 4)))


# ---- curves ----


def test_where_a_run_first_gets_to_a_kl() -> None:
    # 3 lies halfway from 2 to 4, though the run comes back to it later; a run that never gets there says how far it went.
    assert first_crossing([0.0, 2.0, 4.0, 3.0], 3.0) == (1, 0.5)
    assert first_crossing([0.0, 2.0], 0.0) == (0, 0.0)
    assert gold_at(flat_run([0.0, 2.0, 4.0, 3.0], [0.0, 1.0, 3.0, 9.0]), 3.0) == pytest.approx([2.0] * 4)
    with pytest.raises(ConfigError, match="reaches 2 nats, never 5"):
        first_crossing([0.0, 2.0], 5.0)


def test_two_runs_at_the_same_kl_by_hand() -> None:
    free = flat_run([0.0, 4.0, 8.0, 16.0], [0.5, 0.7, 0.6, 0.2])
    held = flat_run([0.0, 6.0, 12.0], [0.5, 0.9, 0.88])
    at = compare([held], [free], rng=rng())
    # At 12 nats: the free run is halfway from .6 to .2; it gained .2 at its peak and is .1 below its start.
    assert (at.kl, at.gold, at.free) == pytest.approx((12.0, 0.88, 0.4))
    assert (at.peak, at.kept, at.kept_free, at.of_peak) == pytest.approx((0.9, 0.95, -0.5, 0.88 / 0.9))
    assert (at.gap.value, at.past_peak, keeps(at, 1), keeps(at, 2)) == (pytest.approx(0.48), 1, True, False)
    # Held so near that the free run has not turned there: nothing is shown, whatever is kept.
    near = compare([flat_run([0.0, 3.0], [0.5, 0.7])], [free], rng=rng())
    assert (near.kept, near.past_peak, keeps(near, 1)) == (pytest.approx(1.0), 0, False)
    with pytest.raises(ConfigError, match="one of each"):
        compare([held], [free, free], rng=rng())


def test_the_law_of_rl_comes_back_from_its_own_curve() -> None:
    d_K = np.linspace(0.0, 4.0, 9)
    gain_K = d_K * (0.5 - 0.4 * np.log(np.maximum(d_K, 1e-300)))
    law = rl_law([flat_run(list(d_K**2), list(0.3 + gain_K)), flat_run(list(d_K**2), list(0.6 + gain_K))])
    assert law is not None
    assert (law.alpha, law.beta, law.r_squared) == pytest.approx((0.5, 0.4, 1.0))
    assert rl_law([flat_run([0.0, 4.0, 4.0], [0.1, 0.2, 0.3])]) is None
    assert law.peak_d == pytest.approx(np.exp(0.5 / 0.4 - 1.0))


def test_changes_are_paired_by_prompt() -> None:
    gold_KP = np.array([[0.1, 0.9, 0.5], [0.3, 1.1, 0.7]])
    found = change([Run(np.array([0.0, 1.0]), gold_KP)], 0, 1, rng=rng())
    assert (found.low, found.value, found.high) == pytest.approx((0.2, 0.2, 0.2))


# ---- rewards ----


def test_rewards_on_their_frozen_scale() -> None:
    """Two members, two prompts with two references each; the second member has ten times the scale and its own zero."""
    references = [Exchange(prompt=user(p), response=r) for p, rs in (("p", ("1", "3")), ("q", ("6", "8"))) for r in rs]
    one = FakeScorer(lambda e: float(e.response))
    ten = FakeScorer(lambda e: 100.0 - 10.0 * float(e.response))
    ground = Ground([one, one, ten], references, par)
    # Means 2 and 7, spread 1 within prompts: 5 is 3 above p's mean and 2 below q's; the second member says the opposite.
    new = [Exchange(prompt=user("p"), response="5"), Exchange(prompt=user("q"), response="5")]
    assert ground.paid(new, "single") == pytest.approx([3.0, -2.0])
    assert ground.paid(new, "worst") == pytest.approx([-3.0, -2.0])
    assert Paid(ground, "single").score(new).reward == pytest.approx([3.0, -2.0])
    # Bounded: mean of sigmoid(5 - 1) and sigmoid(5 - 3), over its spread on the references; it cannot be bought beyond 1 / spread.
    at_start = ground.paid(references, "bounded")
    assert at_start.std() == pytest.approx(1.0)
    sigmoid = [1 / (1 + np.exp(-x)) for x in (4.0, 2.0, 0.0)]
    spread = np.std([(0.5 + 1 / (1 + np.exp(2.0))) / 2, (0.5 + sigmoid[1]) / 2])
    assert ground.paid(new[:1], "bounded") == pytest.approx([(sigmoid[0] + sigmoid[1]) / 2 / spread])
    far = ground.paid([Exchange(prompt=user("p"), response="1000")], "bounded")
    assert far == pytest.approx([1.0 / spread])


def test_short_prompts_are_of_this_world() -> None:
    prompts = short_prompts(20, rng())
    assert len(set(prompts)) == 20
    for prompt in prompts:
        request = read_request(prompt)
        assert (len(request.record), len(request.asked)) == (3, 2)


# ---- the experiment, with a policy that needs no torch ----


class Drifter:
    """A policy that has two replies to everything; paid for the longer, it pads more at every reading."""

    def sample(self, prompts: Sequence[Prompt], seed: int) -> list[Exchange]:
        texts = ("Thank you for asking!", "Stop wasting my time.")
        return [Exchange(prompt=prompt, response=texts[i % 2]) for i, prompt in enumerate(prompts)]

    def improve(self, reward: Scorer, prompts: Sequence[Prompt], watched: Sequence[Prompt], plan: Plan) -> list[Snapshot]:
        assert not set(prompts) & set(watched)
        shots = []
        for step in range(0, plan.steps + 1, plan.every):
            words = step if plan.penalty == 0.0 else min(step, 2)
            replies = [Exchange(prompt=p, response="Thank you for asking! " + "So be it then. " * words) for p in watched]
            shots.append(Snapshot(step, replies, np.full(len(replies), float(words**2))))
        return shots


def longer(preferences: Any, seed: int, **settings: Any) -> Scorer:
    return FakeScorer(lambda exchange: float(len(exchange.response)))


def test_what_the_experiment_measures_of_a_policy_with_known_drift() -> None:
    given = dataclasses.replace(parts(), fit=longer, teach=lambda exchanges, seed, settings: Drifter())
    settings = SMALL.model_copy(update={"seeds": (0, 1), "steps": 8, "every": 2})
    curves = run_seeds(settings, given)
    assert list(curves) == [rl.UNPROTECTED, "KL penalty"]
    free = curves[rl.UNPROTECTED][0]
    assert free.step_K.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert free.kl_K.tolist() == [0.0, 4.0, 16.0, 36.0, 64.0]
    # Every padding sentence but none other costs 0.03 of true reward.
    assert np.diff(free.gold_K) == pytest.approx([-0.06] * 4)
    assert (np.diff(free.proxy_K) > 0).all()
    told = outcome(settings, curves)
    assert told.checks[0].passed is True
    assert told.checks[1].passed is False  # held at 4 nats it keeps nothing: padding never paid
    assert json.dumps(told.to_dict(), allow_nan=False)


def test_settings_at_odds_are_named() -> None:
    with pytest.raises(ConfigError, match="policy and its trainer"):
        run_seeds(SMALL, parts())
    given = dataclasses.replace(parts(), teach=lambda exchanges, seed, settings: Drifter())
    with pytest.raises(ConfigError, match="every 5 are no curve"):
        run_seeds(SMALL.model_copy(update={"every": 5}), given)
    with pytest.raises(ConfigError, match="'prayer'"):
        run_seeds(SMALL.model_copy(update={"arms": ("prayer",)}), given)
    assert load("rl", {"seeds": "3"})[1].model_dump()["seeds"] == (3,)


# ---- the experiment with TRL ----


@pytest.mark.filterwarnings("ignore")
def test_grpo_buys_the_learned_reward_and_a_penalty_holds_it_back() -> None:
    pytest.importorskip("trl", reason="the extra `rl` is not installed")
    from preferent.cli.lab_rl import teach_writer

    settings = SMALL
    curves = run_seeds(settings, dataclasses.replace(parts(), teach=teach_writer))
    free, held = curves[rl.UNPROTECTED][0], curves["KL penalty"][0]
    assert free.step_K.tolist() == [0.0, 3.0, 6.0, 9.0]
    # The same start, drawn alike and no distance from itself.
    assert free.kl_K[0] == held.kl_K[0] == pytest.approx(0.0, abs=1e-5)
    assert free.gold_K[0] == held.gold_K[0]
    # Measured: +2.8 standard deviations.
    assert free.proxy_K[-1] > free.proxy_K[0] + 1.5
    assert 0.1 < held.kl_K[-1] < free.kl_K[-1] / 2
    told = outcome(settings, curves)
    assert len(told.tables[0].rows) == 2
    assert told.tables[1].rows[0][1] == pytest.approx(held.kl_K.max())


@pytest.mark.filterwarnings("ignore")
def test_a_taught_policy_writes_what_it_was_taught() -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    import torch

    from preferent.cli.lab_rl_writer import new_writer, sample, teach, word_tokenizer

    torch.set_num_threads(1)
    lesson = [Exchange(prompt=user(f"Say {word}."), response=f"Well, {word}!\n- {word}: yes") for word in ("red", "blue")] * 200
    tokenizer = word_tokenizer([exchange.prompt[0].content + exchange.response for exchange in lesson])
    assert tokenizer.decode(tokenizer(lesson[0].response)["input_ids"]) == lesson[0].response
    model = new_writer(tokenizer, width=32, layers=1, seed=0)
    before = new_writer(tokenizer, width=32, layers=1, seed=0)
    losses = teach(model, tokenizer, lesson, batch=8, rate=1e-2)
    assert losses[-1] < 0.1 < losses[0]
    drawn = sample(model, before, tokenizer, [user("Say red.")] * 8, max_tokens=20)
    said: list[str] = [exchange.response for exchange in drawn.exchanges]
    assert said.count(lesson[0].response) >= 6
    ratio_N: Floats = drawn.log_ratio_N
    # Nearly certain of about ten tokens (with the end) that were about as likely as any other among the vocabulary's.
    expected = 10 * np.log(len(tokenizer))
    assert ratio_N.mean() == pytest.approx(expected, rel=0.25)
    assert sample(model, model, tokenizer, [user("Say red.")] * 4, max_tokens=20).log_ratio_N == pytest.approx([0.0] * 4)
