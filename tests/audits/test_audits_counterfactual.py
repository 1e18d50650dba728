"""Counterfactual effects: planted biases are measured, named, and nothing else is; small effects are reported and not called findings."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from preferent.audits.battery import Battery, run_battery, score_once
from preferent.audits.battery_settings import BatterySettings
from preferent.audits.counterfactual import Asked, EditEffect, judge_edits, plan_edits, severity_of
from preferent.audits.counterfactual_stats import Scale, benjamini_hochberg, resamples, shift_of, wilson
from preferent.audits.edits.all import NEUTRAL_EDITS, standard_edits
from preferent.audits.edits.base import Edit, on_response
from preferent.audits.edits.length import FILLER_FIRST
from preferent.audits.probe import AuditData, audit_data, built_in_probes
from preferent.core.errors import ConfigError, ModelError
from preferent.core.records import Exchange, Preference, Scores, user
from preferent.core.scorer import FakeScorer, length_scorer

PROBES = built_in_probes()
QUICK = BatterySettings(n_resamples=400)
GREETING = tuple(edit for edit in NEUTRAL_EDITS if edit.name == "social.greeting")


def noise(exchange: Exchange, seed: int = 0) -> float:
    """A number of mean 0 and standard deviation 1 that is a function of the text."""
    return float(np.random.default_rng([zlib.crc32(exchange.model_dump_json().encode()), seed]).normal())


def greets(exchange: Exchange) -> bool:
    return exchange.response.startswith(("Hello!", "Hi there!", "Good day"))


def effects_of(rule: Callable[[Exchange], float], edits: Sequence[Edit], *, smallest: float = 0.2) -> dict[str, EditEffect]:
    battery = run_battery(FakeScorer(rule), edits=edits, settings=BatterySettings(n_resamples=400, smallest=smallest))
    return {effect.edit.name: effect for effect in battery.effects}


def named(battery: Battery) -> set[str]:
    return {effect.edit.name for effect in battery.effects if effect.finding.verdict == "finding"}


# ---- a planted bias is named ----

PLANTED: dict[str, Callable[[str], bool]] = {
    "length.filler": lambda text: text.startswith(FILLER_FIRST),
    "format.bold": lambda text: "**" in text,
    "format.headers": lambda text: text.startswith("## "),
    "style.emoji": lambda text: any(ord(mark) > 0x2600 and ord(mark) != 0x2212 for mark in text),
    "style.link": lambda text: "https://" in text,
    "social.flattery": lambda text: text.startswith(("What a brilliant", "That is an excellent", "I am impressed")),
    "social.agreement": lambda text: text.startswith("You are right"),
    "surface.upper_case": lambda text: text.isupper(),
    "answer.boxed": lambda text: "\\boxed" in text,
    "attack.injection": lambda text: "grader" in text or "SYSTEM:" in text or "10/10" in text,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bias_is_named_and_the_others_are_not(name: str):
    """Reward: noise of standard deviation 1, plus 1 for the property. The effect is the planted one, the other edits are clear."""
    scorer = FakeScorer(lambda exchange: noise(exchange) + 1.0 * PLANTED[name](exchange.response))
    battery = run_battery(scorer, edits=NEUTRAL_EDITS, settings=QUICK)
    effect = next(effect for effect in battery.effects if effect.edit.name == name)
    assert named(battery) == {name}
    assert effect.effect.value == pytest.approx(1.0, abs=0.35), "three standard errors of 150 differences of two noises"
    assert effect.finding.p_value is not None
    assert effect.finding.p_value <= 0.05
    assert battery.findings[0].severity > 0
    assert next(line for line in battery.findings if line.audit == "counterfactual").name == name


def test_scorers_that_react_to_nothing_are_left_alone():
    """20 batteries of 32 true nulls. With 0 as the smallest effect only Benjamini-Hochberg protects, and 5 % of the batteries may name an
    edit; with the default one none should. (200 batteries: bench/audit_power.py.)"""
    plans = plan_edits(PROBES, NEUTRAL_EDITS, per_edit=100, seed=0)
    texts = list(dict.fromkeys([*PROBES.exchanges, *(side for cells in plans for cell in cells for side in (cell.without, cell.edited))]))
    found = {0.0: 0, 0.2: 0}
    for seed in range(20):
        rewards = dict(zip(texts, np.random.default_rng(seed).normal(size=len(texts)).tolist(), strict=True))
        for smallest in found:
            settings = BatterySettings(smallest=smallest, n_resamples=100, n_examples=0)
            effects = judge_edits(NEUTRAL_EDITS, plans, Asked.of(PROBES, rewards, settings, seed=seed))
            found[smallest] += any(effect.finding.verdict == "finding" for effect in effects)
    assert found[0.0] <= 4, "a binomial of 20 and .05 is above 4 once in 390 times"
    assert found[0.2] == 0


def test_a_small_effect_is_certain_and_still_no_finding():
    """A change of 0.1 standard deviations in every single text: p far below any level, reported as real, and called clear."""

    def rule(exchange: Exchange) -> float:
        return noise(Exchange(prompt=exchange.prompt, response=_plain(exchange))) + 0.1 * greets(exchange)

    line = effects_of(rule, GREETING)["social.greeting"]
    assert line.p_zero < 1e-6
    assert line.effect.value == pytest.approx(0.1, abs=0.02)
    assert line.finding.verdict == "clear"
    assert "Real, but smaller than the 0.2 that would matter" in line.finding.summary
    assert effects_of(rule, GREETING, smallest=0.05)["social.greeting"].finding.verdict == "finding"


def _plain(exchange: Exchange) -> str:
    """The response without the greetings of the battery."""
    stripped = GREETING[0].undo(exchange, np.random.default_rng(0)) if GREETING[0].undo else None
    return exchange.response if stripped is None else stripped.response


def test_a_fall_is_no_finding_where_only_a_rise_is_a_bias():
    effect = effects_of(lambda exchange: noise(exchange) - 1.0 * greets(exchange), GREETING)["social.greeting"]
    assert effect.effect.high < 0
    assert effect.finding.verdict == "clear"
    assert effect.finding.severity == 0


def test_hollow_replies_must_fall():
    """A scorer that counts words marks all hollow replies down but the shuffled one, whose words are the same."""
    rule = FakeScorer(lambda exchange: float(len(exchange.response.split())))
    battery = run_battery(rule, settings=QUICK)
    fall = {effect.edit.name: effect for effect in battery.effects if effect.edit.expects == "must_fall"}
    assert {name for name, effect in fall.items() if effect.finding.verdict == "finding"} == {"hollow.shuffled"}
    assert fall["hollow.shuffled"].effect.value == 0
    assert fall["hollow.shuffled"].finding.severity == 1.0
    assert fall["hollow.punctuation"].effect.high < -0.2


def test_severity_is_what_is_missing_to_a_sound_reaction():
    must_fall = next(edit for edit in standard_edits(PROBES.exchanges) if edit.expects == "must_fall")
    assert severity_of(must_fall, 0.5, "finding") == 1.5
    assert severity_of(GREETING[0], -0.5, "finding") == 0.5
    assert severity_of(GREETING[0], 0.5, "clear") == 0.0


# ---- worked examples ----

STARRED = Edit("test.star", "has a star", on_response(lambda text, _: f"{text} *"), bias="up")


def letters(values: dict[str, float]) -> FakeScorer:
    return FakeScorer(lambda exchange: values[exchange.response])


def two_prompts() -> AuditData:
    rows = [Preference(prompt=user(prompt), response_a=f"{prompt}1", response_b=f"{prompt}2", p_a=1.0) for prompt in ("p", "q")]
    return audit_data(rows)


def test_effect_and_flip_rate_by_hand():
    """Rewards p: 3, 1 and q: 6, 4. Within each prompt the deviations are +-1, so the pooled variance is (1+1+1+1)/2 = 2 and the standard
    deviation sqrt(2). The star adds 1, 3, 1, 1: mean 1.5, effect 1.5/sqrt(2). Both pairs are ordered right; the worse one of p becomes
    4 > 3 and overtakes, the worse one of q becomes 5 < 6: flip rate 1/2. Overall: 3, 1, 6, 4 have the mean 3.5 and the variance
    (.25 + 6.25 + 6.25 + .25)/3."""
    values = {"p1": 3.0, "p2": 1.0, "q1": 6.0, "q2": 4.0, "p1 *": 4.0, "p2 *": 4.0, "q1 *": 7.0, "q2 *": 5.0}
    settings = BatterySettings(min_prompts=2, n_resamples=200)
    (effect,) = judge(letters(values), two_prompts(), (STARRED,), settings)
    assert effect.effect.value == pytest.approx(1.5 / np.sqrt(2))
    assert effect.overall == pytest.approx(1.5 / np.sqrt(13 / 3))
    assert effect.flip_rate.value == 0.5
    assert effect.flip_rate.n == 2
    first = effect.finding.examples[0]
    assert (first.left, first.right, first.reward_left, first.reward_right) == ("p2", "p2 *", 1.0, 4.0)
    assert (effect.n_prompts, effect.effect.n) == (2, 4)


def judge(scorer: FakeScorer, data: AuditData, edits: Sequence[Edit], settings: BatterySettings) -> list[EditEffect]:
    plans = plan_edits(data, edits, per_edit=settings.per_edit, seed=0)
    texts = [*data.exchanges, *(side for cells in plans for cell in cells for side in (cell.without, cell.edited))]
    return judge_edits(edits, plans, Asked.of(data, score_once(scorer, texts), settings, seed=0))


def test_too_few_prompts_and_flat_rewards_are_unknown():
    flat = judge(FakeScorer(lambda exchange: float("*" in exchange.response)), two_prompts(), (STARRED,), BatterySettings(min_prompts=2))
    few = judge(FakeScorer(noise), two_prompts(), (STARRED,), BatterySettings())
    assert flat[0].finding.verdict == few[0].finding.verdict == "unknown"
    assert "do not differ within prompts" in flat[0].finding.summary
    assert "2 prompts, fewer than 10" in few[0].finding.summary
    assert few[0].to_dict()["effect"]["low"] is None


def test_one_response_per_prompt_falls_back_to_the_overall_spread():
    reward_E = np.array([1.0, 3.0, 5.0])
    scale = Scale.of(reward_E, np.arange(3), 3)
    assert scale.fallback
    assert scale.within == pytest.approx(2.0)
    assert scale.within == scale.overall


def test_rewards_on_another_scale_give_the_same_effects():
    """Multiplied by 7 and shifted by 100: nothing in the table changes."""
    one = effects_of(lambda exchange: noise(exchange) + greets(exchange), GREETING)["social.greeting"]
    other = effects_of(lambda exchange: 100 + 7 * (noise(exchange) + greets(exchange)), GREETING)["social.greeting"]
    assert other.effect.value == pytest.approx(one.effect.value)
    assert other.effect.low == pytest.approx(one.effect.low)
    assert other.p_value == pytest.approx(one.p_value)
    assert other.flip_rate == one.flip_rate


def test_benjamini_hochberg_by_hand():
    """p = .01 .04 .03 .5 with four tests: sorted .01 .03 .04 .5 times 4/1 4/2 4/3 4/4 = .04 .06 .0533 .5, then the running minimum from
    the right: .04 .0533 .0533 .5. A test without an answer is none."""
    adjusted = benjamini_hochberg(np.array([0.01, 0.04, np.nan, 0.03, 0.5]))
    np.testing.assert_allclose(adjusted, [0.04, 0.16 / 3, np.nan, 0.16 / 3, 0.5])
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()


def test_wilson_by_hand():
    """8 of 10 with z = 1.96: centre (.8 + .19208)/(1.38416) = .7167, half-width 1.96 sqrt(.016 + .0096)/1.38416 = .2266."""
    made = wilson(8, 10, 10.0, "")
    assert (made.low, made.high) == (pytest.approx(0.4902, abs=2e-4), pytest.approx(0.9433, abs=2e-4))
    assert wilson(0, 10, 10.0, "").low == 0


@pytest.mark.parametrize("effect", [0.0, 0.2, 1.0])
def test_the_interval_covers_and_the_test_at_its_bound_is_of_the_stated_size(effect: float):
    """300 audits of 60 prompts with two cells each, changes correlated within prompts, spread estimated from 4 responses per prompt."""
    generator, edit = np.random.default_rng(5), GREETING[0]
    prompt_E, prompt_J = np.repeat(np.arange(60), 4), np.repeat(np.arange(60), 2)
    counts_RP = resamples(60, 400, generator)
    covered, rejected = 0, 0
    for _ in range(300):
        scale = Scale.of(generator.normal(size=240), prompt_E, 60)
        change_J = effect + 0.5 * generator.normal(size=60)[prompt_J] + 0.8 * generator.normal(size=120)
        shift = shift_of(change_J, prompt_J, scale, edit=edit, smallest=effect, counts_RP=counts_RP)
        covered += shift.value.low <= effect <= shift.value.high
        rejected += shift.p_bound <= 0.05
    assert covered / 300 > 0.91
    assert rejected / 300 < 0.085, "5 % and three standard errors"


# ---- what is asked for ----


class Counting:
    name = "counting"

    def __init__(self) -> None:
        self.calls: list[list[Exchange]] = []

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        self.calls.append(list(exchanges))
        return Scores(np.array([noise(exchange) for exchange in exchanges]))


def test_every_text_is_scored_once_with_its_prompt_side_by_side():
    scorer, told = Counting(), []
    settings = BatterySettings(n_resamples=100, slab=1000, per_edit=68)
    battery = run_battery(scorer, settings=settings, progress=lambda done, total: told.append((done, total)))
    asked = [exchange for call in scorer.calls for exchange in call]
    assert len(asked) == len(set(asked)) == battery.n_scored
    prompts = [exchange.prompt for exchange in asked]
    runs = 1 + sum(a != b for a, b in pairwise(prompts))
    assert runs == len(set(prompts))
    assert len(scorer.calls) == len(told) > 2
    assert told[-1] == (battery.n_scored, battery.n_scored)
    single = Counting()
    assert len(score_once(single, asked[:50] * 2)) == 50
    assert len(single.calls) == 1


def test_the_same_seed_asks_the_same():
    first, second, third = Counting(), Counting(), Counting()
    for scorer, seed in ((first, 1), (second, 1), (third, 2)):
        run_battery(scorer, edits=GREETING, settings=QUICK, seed=seed)
    assert first.calls == second.calls != third.calls


def test_more_prompts_than_needed_are_subsampled_and_n_says_so():
    rows = [Preference(prompt=user(f"Question {i}?"), response_a=f"Yes {i}.", response_b=f"No {i}.", p_a=1.0) for i in range(80)]
    battery = run_battery(FakeScorer(noise), audit_data(rows), edits=GREETING, settings=BatterySettings(per_edit=50, n_resamples=100))
    assert (battery.effects[0].effect.n, battery.effects[0].n_prompts) == (50, 50)


def test_rewards_that_are_no_numbers_are_an_error():
    with pytest.raises(ModelError, match="gave the reward nan"):
        score_once(FakeScorer(lambda exchange: float("nan"), name="broken"), PROBES.exchanges[:3])


def test_settings_out_of_range_are_an_error():
    with pytest.raises(ConfigError, match="smallest"):
        BatterySettings(smallest=-1)
    with pytest.raises(ConfigError, match="required_detection"):
        BatterySettings(required_detection=0.4)


def test_the_battery_as_json_has_every_line():
    battery = run_battery(length_scorer(), settings=QUICK)
    assert len(battery.findings) == len(battery.effects) + len(battery.detections)
    written = battery.to_dict()
    assert {row["edit"] for row in written["effects"]} == {effect.edit.name for effect in battery.effects}
    assert battery.findings[0].verdict == "finding"
    assert next(line for line in battery.findings if line.name == "length.duplicate").verdict == "finding"
