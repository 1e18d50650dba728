"""Objectives in training: masked regression, comparisons by column, weights, the gate, the constraint, ODIN; planted worlds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loop_worlds import GATE, cats, counts_of, losses, rated, standard, wordy
from safetensors.torch import load_file
from scipy.stats import spearmanr

from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Exchange, Preference, Ranking, Rating, user
from preferent.models.objectives import CostConstraint, FittedWeights, FixedWeights, PromptGate
from preferent.models.reward_model import RewardModel
from preferent.training.config import BradleyTerry, load_config
from preferent.training.constraint import dual_ascent, mean_cost
from preferent.training.decorrelation import correlation, length_penalty, moments, surrogate
from preferent.training.groups import Column, group_records, split_groups
from preferent.training.heads import plan_heads
from preferent.training.objective import summed_loss, weight_of
from preferent.training.prepare import TokenGroup
from preferent.training.run import train
from preferent.training.trainee import Outputs

Base = Callable[..., str]
COLUMNS = {"feline": Column(0, mean=2.0, sd=0.5), "canine": Column(1)}


def settings(**more: str) -> Any:
    return load_config(None, {"base": "tiny", **{name.replace("__", "."): value for name, value in more.items()}})


def packed(records: list[Any]) -> list[TokenGroup]:
    ids = np.zeros(1, dtype=np.int32)
    return [TokenGroup((ids,) * len(group.exchanges), group) for group in group_records(records, columns=COLUMNS)]


# ---- losses, by hand ----


def test_what_is_not_rated_is_no_part_of_the_loss() -> None:
    groups = packed(
        [
            Rating(prompt=user("p"), response="x", values={"feline": 3.0}),
            Rating(prompt=user("p"), response="y", values={"canine": -1.0, "feline": 2.0}),
        ]
    )
    # Standardised: x feline (3 - 2) / 0.5 = 2; y feline 0, canine -1. Errors 1 - 2, 0.5 - 0, 4 + 1: 1 + 0.25 + 25.
    values = torch.tensor([[1.0, 99.0, 0.0], [0.5, 4.0, 0.0]], requires_grad=True)
    loss = summed_loss(Outputs(values), groups, BradleyTerry())
    assert loss.item() == pytest.approx(26.25)
    assert weight_of(groups, BradleyTerry()) == 3.0
    loss.backward()
    assert values.grad is not None
    # 99 was not rated: 0, as in none.
    assert values.grad.tolist() == [[-2.0, 0.0, 0.0], [1.0, 10.0, 0.0]]
    assert summed_loss(Outputs(values), groups, BradleyTerry(), rating_weight=2.0).item() == pytest.approx(52.5)
    assert weight_of(groups, BradleyTerry(), rating_weight=2.0) == 6.0


def test_a_comparison_is_made_on_the_column_of_its_objective() -> None:
    pair = {"prompt": user("p"), "response_a": "x", "response_b": "y", "p_a": 1.0}
    groups = packed([Preference(**pair, objective="canine"), Preference(**pair)])
    values = torch.tensor([[9.0, 2.0, 0.5], [7.0, 1.0, 1.5]])
    # Column 1: -log sigma(1); the reward: -log sigma(-1).
    expected = math.log1p(math.exp(-1)) + math.log1p(math.exp(1))
    assert summed_loss(Outputs(values), groups, BradleyTerry()).item() == pytest.approx(expected)
    # On a scale of its own, log 3: -log sigma(3) for column 1.
    scaled = Outputs(values, log_scale_C=torch.tensor([0.0, math.log(3.0), 0.0]))
    expected = math.log1p(math.exp(-3)) + math.log1p(math.exp(1))
    assert summed_loss(scaled, groups, BradleyTerry()).item() == pytest.approx(expected)


def test_scaled_bradley_terry_multiplies_where_a_margin_subtracts() -> None:
    pair = {"prompt": user("p"), "response_a": "x", "response_b": "y", "p_a": 1.0}
    groups = packed([Preference(**pair, margin=3.0), Preference(**pair)])
    outputs = Outputs(torch.tensor([[2.0], [1.0]]))
    plain = math.log1p(math.exp(-1))
    assert summed_loss(outputs, groups, BradleyTerry(margin="scale")).item() == pytest.approx(3 * plain + plain)
    assert summed_loss(outputs, groups, BradleyTerry()).item() == pytest.approx(math.log1p(math.exp(2)) + plain)


def test_every_pair_gets_its_own_gradient() -> None:
    """Summed over the batch before the logarithm, as one shipped loss does it, a pair in the wrong order would get that of the others."""
    groups = packed([Preference(prompt=user(f"p{n}"), response_a="x", response_b="y", p_a=1.0) for n in range(2)])
    values = torch.tensor([[3.0], [0.0], [-2.0], [0.0]], requires_grad=True)
    summed_loss(Outputs(values), groups, BradleyTerry()).backward()
    assert values.grad is not None
    assert values.grad[:, 0].tolist() == pytest.approx(
        [-1 / (1 + math.exp(3)), 1 / (1 + math.exp(3)), -1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-2))]
    )


@pytest.mark.parametrize("limit", [2, 3, 5])
def test_large_groups_keep_every_rating_once(limit: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"r{n}" for n in range(12)]
    records: list[Any] = [Rating(prompt=user("p"), response=name, values={"feline": float(n)}) for n, name in enumerate(names)]
    records += [
        Preference(prompt=user("p"), response_a=names[a], response_b=names[b], p_a=1.0) for a, b in [(0, 5), (5, 7), (2, 0), (7, 1)]
    ]
    records += [Ranking(prompt=user("p"), responses=("r9", "new", "r3"), ranks=(1.0, 2.0, 3.0))]
    records = [records[n] for n in rng.permutation(len(records))]
    parts = split_groups(group_records(records, columns=COLUMNS), max_responses=limit, seed=0)
    found = [
        (part.exchanges[r].response, float(v) * 0.5 + 2.0)
        for part in parts
        for r, v in zip(part.ratings.response_M, part.ratings.value_M, strict=True)
    ]
    assert sorted(found) == sorted((name, float(n)) for n, name in enumerate(names))
    assert sum(part.n_edges for part in parts) == 7
    assert all(len(part.exchanges) <= max(limit, 3) for part in parts)
    for part in parts:
        assert set(part.ratings.record_M.tolist()) <= set(part.names)


# ---- which heads ----


def test_the_plan_follows_the_data() -> None:
    ratings = [Rating(prompt=user("p"), response=str(v), values={"tone": float(v)}) for v in (1, 2, 6)]
    pair = {"prompt": user("p"), "response_a": "1", "response_b": "2", "p_a": 1.0}
    overall, safety = Preference(**pair), Preference(**pair, objective="safety")
    assert plan_heads([overall], settings()).spec is None
    plan = plan_heads([*ratings, safety], settings())
    assert plan.spec is not None
    # Mean 3, variance (4 + 1 + 9) / 3.
    tone = next(item for item in plan.spec.objectives if item.name == "tone")
    assert (tone.mean, tone.sd, tone.n_ratings, tone.n_pairs) == (3.0, pytest.approx((14 / 3) ** 0.5), 3, 0)
    assert plan.spec.names == ("safety", "tone")
    assert plan.spec.combination == FixedWeights(weights=(0.5, 0.5))
    assert "safety (1 comparisons)" in plan.note
    assert isinstance(plan_heads([*ratings, safety, overall], settings()).spec.combination, FittedWeights)  # type: ignore[union-attr]
    gated = plan_heads([*ratings, safety, overall], settings(combination__kind="gate", combination__hidden="4"))
    assert gated.spec is not None
    assert gated.spec.combination == PromptGate(hidden=4)
    # Its softmax fixes the scale of the reward, so comparisons get one of their own.
    assert gated.scaled == (2,)
    assert not gated.shape
    stated = plan_heads([*ratings, safety], settings(combination__kind="fixed", combination__weights="tone=2, safety=-1"))
    assert stated.spec is not None
    assert stated.spec.combination == FixedWeights(weights=(-1.0, 2.0 * tone.sd))
    bound = plan_heads([*ratings, safety], settings(combination__kind="constraint", combination__cost="tone", combination__budget="2"))
    assert bound.spec is not None
    assert bound.spec.combination == CostConstraint(weights=(1.0, 0.0), cost="tone", budget=2.0)


@pytest.mark.parametrize(
    ("records", "more", "error", "said"),
    [
        ("both", {"combination__kind": "single"}, DataError, "combination.kind is 'single'"),
        ("ratings", {"combination__kind": "gate"}, DataError, "learns weights from overall preferences"),
        ("overall", {"combination__kind": "fitted"}, DataError, "no record names an objective"),
        ("both", {"combination__kind": "fixed", "combination__weights": "tone=x,safety=1"}, ConfigError, "objective=number"),
        ("both", {"combination__kind": "fixed", "combination__weights": "tone=1"}, ConfigError, "the objectives to weigh are safety, tone"),
        (
            "both",
            {"combination__kind": "constraint", "combination__cost": "safety", "combination__budget": "1"},
            ConfigError,
            "rated objectives",
        ),
        ("flat", {}, DataError, "all 2 training ratings of 'tone' are 3"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(records: str, more: dict[str, str], error: type[Exception], said: str) -> None:
    ratings = [Rating(prompt=user("p"), response=str(v), values={"tone": float(v)}) for v in (1, 2)]
    pair = {"prompt": user("p"), "response_a": "1", "response_b": "2", "p_a": 1.0}
    made: dict[str, list[Any]] = {
        "ratings": ratings,
        "both": [*ratings, Preference(**pair, objective="safety")],
        "overall": [Preference(**pair)],
        "flat": [Rating(prompt=user("p"), response=r, values={"tone": 3.0}) for r in "xy"],
    }
    with pytest.raises(error, match=said):
        plan_heads(made[records], settings(**more))


def test_an_objective_without_a_head_is_never_ignored() -> None:
    with pytest.raises(DataError, match="'tone' has no head"):
        group_records([Preference(prompt=user("p"), response_a="x", response_b="y", p_a=1.0, objective="tone")])


# ---- the constraint ----


def test_dual_ascent_finds_the_multiplier() -> None:
    # One prompt, r = (1, 0), c = (1, 0): the first is chosen with sigma(1 - lambda), which is its cost. 1/4 at lambda = 1 + log 3.
    one = dual_ascent(np.array([1.0, 0.0]), np.array([1.0, 0.0]), np.array([0, 0]), budget=0.25)
    assert one.value == pytest.approx(1.0 + math.log(3.0), abs=1e-4)
    assert one.converged
    assert one.feasible
    assert one.unconstrained_cost == pytest.approx(1 / (1 + math.exp(-1)))
    # Twice the temperature: sigma((1 - lambda) / 2).
    warm = dual_ascent(np.array([1.0, 0.0]), np.array([1.0, 0.0]), np.array([0, 0]), budget=0.25, temperature=2.0)
    assert warm.value == pytest.approx(1.0 + 2.0 * math.log(3.0), abs=1e-4)
    # A budget that is kept anyway leaves the reward alone; one that cannot be kept is said to be so.
    assert dual_ascent(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0, 0]), budget=0.9).value == 0.0
    hopeless = dual_ascent(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]), np.array([0, 0, 0]), budget=0.5)
    assert not hopeless.feasible
    assert hopeless.least_cost == 1.0


def test_dual_ascent_on_many_prompts_keeps_the_budget() -> None:
    rng = np.random.default_rng(0)
    prompt = np.repeat(np.arange(50), 4)
    reward, cost = rng.normal(size=200), rng.normal(size=200)
    found = dual_ascent(reward + cost, cost, prompt, budget=-0.3)
    assert found.converged
    assert mean_cost(reward + cost, cost, prompt, found.value) == pytest.approx(-0.3, abs=1e-5)
    # The optimum of a concave dual is unique: more or less multiplier misses the budget on either side.
    assert mean_cost(reward + cost, cost, prompt, found.value + 0.05) < -0.3 < mean_cost(reward + cost, cost, prompt, found.value - 0.05)


# ---- ODIN ----


def test_correlations_are_pearsons_and_a_constant_has_none() -> None:
    rng = np.random.default_rng(0)
    values, length = rng.normal(size=(40, 3)), rng.integers(3, 200, 40)
    values[:, 2] = 7.0
    rho = correlation(moments(torch.tensor(values), torch.tensor(length)))
    for column in (0, 1):
        assert rho[column].item() == pytest.approx(np.corrcoef(values[:, column], length)[0, 1])
    assert rho[2].item() == 0.0
    # 0.6^2 less the mean of 0.5 and 0.1; and |-0.6| by absolute values.
    assert length_penalty(torch.tensor([-0.6]), torch.tensor([0.5, 0.1]), squared=True).item() == pytest.approx(0.36 - 0.3)
    assert length_penalty(torch.tensor([-0.6]), torch.tensor([0.5, 0.1]), squared=False).item() == pytest.approx(0.6 - 0.3)


@pytest.mark.parametrize("squared", [True, False])
def test_passes_add_up_to_the_gradient_of_the_whole_step(squared: bool) -> None:
    rng = np.random.default_rng(1)
    length = torch.tensor(rng.integers(3, 90, 30))
    whole = torch.tensor(rng.normal(size=(30, 4)), requires_grad=True)
    rho = correlation(moments(whole, length))
    length_penalty(rho[:2], rho[2:], squared=squared).backward()
    parts = torch.tensor(whole.detach().numpy(), requires_grad=True)
    total = moments(parts.detach(), length)
    for rows in (slice(0, 11), slice(11, 12), slice(12, 30)):
        term, told = surrogate(moments(parts[rows], length[rows]), total, 2, squared=squared)
        term.backward()
        assert told.item() == pytest.approx(length_penalty(rho[:2], rho[2:], squared=squared).item())
    assert whole.grad is not None
    assert parts.grad is not None
    torch.testing.assert_close(parts.grad, whole.grad)
    assert float(whole.grad.abs().max()) > 1e-3


# ---- whole trainings ----


def values_of(model: RewardModel, records: list[Any]) -> tuple[list[Exchange], Any]:
    exchanges = list(
        {(r.prompt, r.response): Exchange(prompt=r.prompt, response=r.response) for r in records if isinstance(r, Rating)}.values()
    )
    return exchanges, model.score(exchanges)


@pytest.mark.parametrize(("kind", "epochs"), [("qwen3", "5"), pytest.param("bert", "20", marks=pytest.mark.slow)])
def test_a_planted_gate_and_both_planted_objectives_are_recovered(base: Base, tmp_path: Path, kind: str, epochs: str) -> None:
    config = load_config(
        None,
        {
            "base": base(kind, initializer_range=0.05),
            "combination.kind": "gate",
            "epochs": epochs,
            "learning_rate": "3e-3",
            "batch.pairs": "24",
        },
    )
    result = train(rated(150), rated(30, seed=1), config, tmp_path)
    assert result.calibration is not None
    model = RewardModel.load(tmp_path)
    exchanges, scores = values_of(model, rated(40, seed=2, missing=0.0))
    counts = np.array([counts_of(exchange.response) for exchange in exchanges])
    for column, name in enumerate(("feline", "canine")):
        assert spearmanr(scores.objectives[name], counts[:, column]).statistic >= 0.9
    # In the units of the ratings: 1 + cats, 10 dogs; regression pulls towards the mean, and no further than that.
    assert np.abs(scores.objectives["feline"] - (1.0 + counts[:, 0])).mean() < 0.5
    assert np.abs(scores.objectives["canine"] - 10.0 * counts[:, 1]).mean() < 5.0
    prompts = list(dict.fromkeys(exchange.prompt for exchange in exchanges))
    weights = model.gate_weights(model.tokenize_prompts(prompts))
    order = [("canine", "feline").index(name) for name in ("feline", "canine")]
    planted = np.array([GATE[prompt[0].content.split()[0]] for prompt in prompts])
    error = np.abs(weights[:, order] - planted).max()
    print(f"{kind}: gate error {error:.3f}")
    assert error <= 0.1
    # What everyone else loads is the reward under the mean weights, and the card says which.
    spec = model.card.heads
    assert spec is not None
    assert isinstance(spec.combination, PromptGate)
    assert spec.combination.mean_weights is not None
    assert sum(spec.combination.mean_weights) == pytest.approx(1.0)


def test_fitted_weights_and_single_objectives_by_comparisons(base: Base, tmp_path: Path) -> None:
    """No ratings: each objective is learned from its own comparisons, and overall ones weigh them 3 to 1."""
    rng = np.random.default_rng(0)
    records: list[Any] = []
    for record in [r for r in rated(160) if isinstance(r, Preference)]:
        z = np.subtract(standard(counts_of(record.response_a)), standard(counts_of(record.response_b)))
        for name, logit in (("feline", 2 * z[0]), ("canine", 2 * z[1]), (None, 1.5 * z[0] + 0.5 * z[1])):
            if rng.random() < 0.7:
                p_a = float(1 / (1 + np.exp(-logit)))
                records.append(record.model_copy(update={"p_a": p_a, "objective": name}))
    config = load_config(None, {"base": base(), "epochs": "5", "learning_rate": "3e-3", "combination.kind": "fitted"})
    train(records, records[:60], config, tmp_path)
    card = json.loads((tmp_path / "preferent.json").read_text())
    weights = card["metrics"]["weights"]
    # z was planted with a scale of 2, so the weights are 0.75 and 0.25.
    assert weights["feline"] / weights["canine"] == pytest.approx(3.0, rel=0.2)
    assert weights["feline"] == pytest.approx(0.75, abs=0.15)
    # Objectives with comparisons of their own have a temperature of their own.
    assert set(card["calibrations"]) == {"feline", "canine"}
    assert card["calibration"] is not None
    model = RewardModel.load(tmp_path)
    exchanges, scores = values_of(model, rated(30, seed=3, missing=0.0))
    counts = np.array([counts_of(exchange.response) for exchange in exchanges])
    assert spearmanr(scores.objectives["feline"], counts[:, 0]).statistic >= 0.9


def test_a_constraint_keeps_the_budget(base: Base, tmp_path: Path) -> None:
    """Cats pay, dogs cost: the multiplier brings the mean of chosen dogs from its middle down to the budget."""
    notes: list[str] = []

    from preferent.training.observer import Observer

    class Notes(Observer):
        def noted(self, text: str) -> None:
            notes.append(text)

    kind = {"combination.kind": "constraint", "combination.cost": "canine", "combination.budget": "8"}
    config = load_config(None, {"base": base(), **kind, "epochs": "4", "learning_rate": "3e-3"})
    train(rated(100, overall=False), [], config, tmp_path, observer=Notes())
    model = RewardModel.load(tmp_path)
    assert model.card.heads is not None
    found = model.card.heads.combination
    assert isinstance(found, CostConstraint)
    assert found.multiplier > 0.0
    assert found.expected_cost == pytest.approx(8.0, abs=0.01)
    assert any("budget 8" in note for note in notes)
    # On new prompts: the softmax of the reward picks dogs at about the budget, and fewer than without the multiplier.
    exchanges, scores = values_of(model, rated(60, seed=5, missing=0.0))
    prompts = [exchange.prompt[0].content for exchange in exchanges]
    cost, weight = [], []
    for prompt in dict.fromkeys(prompts):
        own = [n for n, other in enumerate(prompts) if other == prompt]
        share = np.exp(scores.reward[own] - scores.reward[own].max())
        cost.append(float(share @ [10.0 * counts_of(exchanges[n].response)[1] for n in own] / share.sum()))
        weight.append(1.0)
    assert np.mean(cost) == pytest.approx(8.0, abs=1.5)


def test_odin_takes_length_out_of_what_people_paid_for_it(base: Base, tmp_path: Path) -> None:
    found = {}
    for way in ("none", "odin"):
        config = load_config(
            None,
            {"base": base(), "decorrelation.kind": way, "epochs": "6", "learning_rate": "3e-3", "batch.pairs": "64"},
        )
        train(wordy(600), [], config, tmp_path / way)
        exchanges = [exchange for record in wordy(300, seed=4) for exchange in record.exchanges()]
        reward = RewardModel.load(tmp_path / way).score(exchanges).reward
        length = np.array([len(exchange.response.split()) for exchange in exchanges])
        quality = np.array([cats(exchange.response) for exchange in exchanges])
        found[way] = (np.corrcoef(reward, length)[0, 1], spearmanr(reward, quality).statistic)
    print(found)
    assert found["none"][0] > 0.4
    assert abs(found["odin"][0]) <= 0.05
    assert found["odin"][1] >= 0.9 > found["none"][1]
    rows = losses(tmp_path / "odin", "length_correlation")
    assert np.mean([value for _, value in rows[-5:]]) < 0.25
    told = json.loads((tmp_path / "odin" / "preferent.json").read_text())["metrics"]["decorrelation"]["reward"]
    # People paid for length, and the head with its length head follows them; the head alone does not.
    assert told["before"] > 0.4
    assert abs(told["after"]) <= 0.1
    # The length head is gone: one objective, one head.
    assert load_file(tmp_path / "odin" / "heads.safetensors").keys() == {"objectives.weight"}


def test_cutting_a_step_into_passes_changes_nothing(base: Base, tmp_path: Path) -> None:
    runs = {}
    for name, more in {"whole": {"micro_tokens": "100000"}, "cut": {"micro_tokens": "60"}}.items():
        config = load_config(None, {"base": base(), "decorrelation.kind": "odin", "batch.pairs": "16", "max_steps": "6", **more})
        train(wordy(100), [], config, tmp_path / name)
        runs[name] = losses(tmp_path / name)
    np.testing.assert_allclose(np.array(runs["whole"]), np.array(runs["cut"]), atol=2e-5)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # peft's own, when it loads an adapter
def test_lora_keeps_the_heads_and_its_adapter_holds_the_combined_one(base: Base, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    folder = base(initializer_range=0.1)
    config = load_config(
        None,
        {
            "base": folder,
            "adapter.kind": "lora",
            "epochs": "5",
            "learning_rate": "1e-2",
            "gradient_checkpointing": "true",
            "combination.kind": "fitted",
        },
    )
    train(rated(120), rated(20, seed=1), config, tmp_path)
    model = RewardModel.load(tmp_path)
    exchanges, scores = values_of(model, rated(20, seed=2, missing=0.0))
    counts = np.array([counts_of(exchange.response) for exchange in exchanges])
    assert spearmanr(scores.objectives["feline"], counts[:, 0]).statistic >= 0.9
    bare = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, pad_token_id=model.tokenizer.pad_token_id)
    adapted = PeftModel.from_pretrained(bare, str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        rewards = [adapted(input_ids=torch.tensor([list(tokens.ids)])).logits[0, 0].item() for tokens in model.tokenize(exchanges)]
    np.testing.assert_allclose(rewards, scores.reward, atol=2e-5)


def test_held_out_labels_of_untrained_objectives_are_counted(base: Base, tmp_path: Path) -> None:
    from preferent.training.observer import Observer

    notes: list[str] = []

    class Notes(Observer):
        def noted(self, text: str) -> None:
            notes.append(text)

    held_out = [Rating(prompt=user("x"), response="y", values={"tone": 1.0, "feline": 2.0}), *rated(8, seed=1)]
    config = load_config(None, {"base": base(), "max_steps": "2", "early_stopping.patience": "1", "evaluate_every": "1"})
    train(rated(10), held_out, config, tmp_path, observer=Notes())
    assert any("1 labels on objectives that are not in the training data" in note for note in notes)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"held_out_nll", "held_out_rating_rmse"} <= {key for row in rows for key in row}


def test_ratings_alone_train_and_stop_early(base: Base, tmp_path: Path) -> None:
    config = load_config(None, {"base": base(), "max_steps": "4", "early_stopping.patience": "1", "evaluate_every": "1"})
    result = train(rated(20, overall=False), rated(8, seed=1, overall=False), config, tmp_path)
    assert result.held_out_nll is None or math.isnan(result.held_out_nll)
    assert result.calibration is None
    metrics = json.loads((tmp_path / "preferent.json").read_text())["metrics"]
    assert metrics["held_out_nll"] is None
    assert metrics["held_out_rating_rmse"] > 0
