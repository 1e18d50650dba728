"""Training on step labels: the loss by hand, what is read, planted errors found, the same bytes after a kill."""

from __future__ import annotations

import hashlib
import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loop_worlds import losses, planted, stepped

from preferent.audits.steps import step_auroc
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import StepLabels, user
from preferent.lab.steps import StepsPolicy, StepsWorld
from preferent.lab.steps_errors import corrupt_chain
from preferent.models.steps import Solution, StepRewardModel
from preferent.training.config import load_config
from preferent.training.losses import step_cross_entropy
from preferent.training.objective import summed_loss, weight_of
from preferent.training.observer import Observer
from preferent.training.run import train
from preferent.training.steps import pack_steps, prepare_steps, settle_steps
from preferent.training.trainee import Outputs

Base = Callable[..., str]
RunJob = Callable[..., int]


def solutions(records: list[StepLabels]) -> list[Solution]:
    return [Solution(record.prompt, record.steps) for record in records]


# ---- the loss ----


def test_the_loss_by_hand() -> None:
    """z = 0: log 2 whatever the label. z = log 3 says p = 3/4: label 1 costs log 4/3, label 0 log 4, label 1/2 their mean."""
    logit_S = torch.tensor([0.0, math.log(3), math.log(3), math.log(3)])
    found_S = step_cross_entropy(logit_S, torch.tensor([0.3, 1.0, 0.0, 0.5]))
    expected = [math.log(2), math.log(4 / 3), math.log(4), 0.5 * (math.log(4 / 3) + math.log(4))]
    np.testing.assert_allclose(found_S.numpy(), expected, rtol=1e-6)


def test_the_slope_is_the_probability_less_the_label_and_large_logits_are_finite() -> None:
    logit_S = torch.tensor([-1e4, -2.0, 0.5, 1e4], requires_grad=True)
    label_S = torch.tensor([1.0, 0.25, 0.25, 0.0])
    step_cross_entropy(logit_S, label_S).sum().backward()
    assert logit_S.grad is not None
    torch.testing.assert_close(logit_S.grad, torch.sigmoid(logit_S.detach()) - label_S)
    assert torch.isfinite(step_cross_entropy(logit_S, label_S)).all()
    assert step_cross_entropy(torch.zeros(1, dtype=torch.bfloat16), label_S[:1]).dtype == torch.float32


# ---- what is read ----


@pytest.fixture(scope="module")
def model(base: Base) -> StepRewardModel:
    return StepRewardModel.create(base(), max_length=300, seed=1)


def test_a_step_without_a_label_is_not_read(model: StepRewardModel) -> None:
    prompt = user("cat sat on the mat " * 4)
    records = [
        StepLabels(prompt=prompt, steps=("cat", "dog", "blue"), labels=(1.0, None, 0.25), id="a"),
        StepLabels(prompt=user("other"), steps=("tree", "house"), labels=(None, 0.0)),
        StepLabels(prompt=prompt, steps=("cat", "dog", "green", "house"), labels=(None, 0.5, 1.0, None)),
    ]
    prepared = prepare_steps(model, records, most=16)
    assert [len(item.ids) for item in prepared.groups] == [2, 1], "solutions of one prompt are one group"
    assert prepared.pairs_G.tolist() == [2, 1]
    first, second = (item.steps for item in prepared.groups)
    assert first is not None
    assert second is not None
    assert (first.label_S.tolist(), first.record_S.tolist()) == ([1.0, 0.25, 0.5, 1.0], [0, 0, 2, 2])
    assert (second.label_S.tolist(), second.record_S.tolist()) == ([0.0], [1])
    # Read where `score_steps` reads: the logits of the labelled steps, in order.
    batch = pack_steps(model, prepared.groups)
    with torch.no_grad():
        found_S = model.module(batch)[:, 0].numpy()
    logits = model.step_logits(solutions(records))
    np.testing.assert_allclose(found_S, [logits[0][0], logits[0][2], logits[2][1], logits[2][2], logits[1][1]], atol=1e-5)
    # And the mean of the loss is over those five.
    outputs = Outputs(torch.tensor(found_S).unsqueeze(1))
    loss = summed_loss(outputs, prepared.groups, load_config(None, {"base": "x"}).loss) / weight_of(prepared.groups, None)  # type: ignore[arg-type]
    by_hand = np.mean([np.logaddexp(0.0, -z) + (1.0 - y) * z for z, y in zip(found_S, [1.0, 0.25, 0.5, 1.0, 0.0], strict=True)])
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)


def test_solutions_that_begin_alike_take_fewer_tokens(model: StepRewardModel) -> None:
    """Three solutions of one problem: the problem and the steps in common lie in the row once."""
    prompt, common = user("green tree said all my homework " * 5), "blue house ate the mat " * 3
    records = [StepLabels(prompt=prompt, steps=(common, end), labels=(1.0, 0.0)) for end in ("cat", "dog", "sat")]
    prepared = prepare_steps(model, records, most=16)
    lengths = [len(ids) for ids in prepared.groups[0].ids]
    assert pack_steps(model, prepared.groups).n_tokens == prepared.tokens_G[0] < sum(lengths) / 2
    alone = prepare_steps(model, records, most=1)
    assert [len(item.ids) for item in alone.groups] == [1, 1, 1]
    assert alone.tokens_G.sum() == sum(lengths)


def test_over_long_solutions_are_counted_and_every_label_is_kept(base: Base) -> None:
    short = StepRewardModel.create(base(), max_length=40, seed=1)
    steps = tuple("cat sat on the mat today" for _ in range(8))
    record = StepLabels(prompt=user("dog"), steps=steps, labels=tuple(float(k % 2) for k in range(8)))
    prepared = prepare_steps(short, [record], most=16)
    assert (prepared.over_long, prepared.response_cut) == (1, 1)
    assert prepared.groups[0].steps is not None
    assert sorted(prepared.groups[0].steps.label_S.tolist()) == [0.0] * 4 + [1.0] * 4
    assert max(len(ids) for ids in prepared.groups[0].ids) <= 40


# ---- refusals ----


def test_what_makes_no_sense_for_steps_is_refused(base: Base, tmp_path: Path) -> None:
    records = stepped(2)
    with pytest.raises(DataError, match="step labels together with Preference"):
        train([*records, *planted(2)], [], load_config(None, {"base": base()}), tmp_path / "a")
    bare = [record.model_copy(update={"labels": (None,) * len(record.steps)}) for record in records]
    with pytest.raises(DataError, match="no step is labelled"):
        train(bare, [], load_config(None, {"base": base()}), tmp_path / "b")
    for name, value in (("loss.kind", "davidson"), ("decorrelation.kind", "odin")):
        with pytest.raises(ConfigError, match=f"{name.split('.')[0]} is a setting for comparisons"):
            train(records, [], load_config(None, {"base": base(), name: value}), tmp_path / "c")


# ---- threshold and aggregation ----


def test_threshold_and_aggregation_are_chosen_not_assumed(model: StepRewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores in which only the last step tells right from wrong: "last" is chosen; where the worst step does, another one."""
    rng = np.random.default_rng(0)
    records = [
        StepLabels(
            prompt=user(f"problem {number} {['cat', 'dog'][number % 2]} {rng.integers(10**9)}"), steps=("a", "b", "c"), labels=labels
        )
        for number in range(12)
        for labels in ((1.0, 1.0, 1.0), (1.0, 1.0, 0.0))
    ]
    telling = {"last": ((-4.0, 4.0, 2.0), (4.0, 4.0, -2.0)), "any": ((2.0, 2.0, 2.0), (2.1, 2.1, -1.0))}
    for name, (right, wrong) in telling.items():
        given = [np.array(right if record.labels[-1] else wrong) + rng.normal(0, 0.01, 3) for record in records]
        monkeypatch.setattr(model, "step_logits", lambda asked, given=given: given[: len(asked)])
        before = model.card
        metrics, notes = settle_steps(model, records, None, seed=0)
        aggregation, threshold = model.steps.aggregation, model.steps.threshold
        assert aggregation is not None
        assert threshold is not None
        model.card = before
        if name == "last":
            assert aggregation.how == "last"
        else:
            assert aggregation.how == "product"
            assert 1 / (1 + math.exp(1.0)) < threshold < 1 / (1 + math.exp(-2.0))
            assert metrics["step_threshold"]["validation_f1"] == 1.0
        assert set(metrics["step_aggregation"]) == {"product", "minimum", "mean", "last", "weighted"}
        assert notes[0].startswith("aggregation of steps")
    _, notes = settle_steps(model, records[::2], None, seed=0)
    assert "not of both kinds" in notes[0]
    assert model.steps.aggregation is None


# ---- planted errors ----


def slips(n: int) -> list[StepLabels]:
    """Six solutions to each of n logic problems: one right, the others with a step that does not follow from the one before. Only the steps
    that take an opposite are labelled: telling whether those follow takes two words, the others four, which takes longer to learn."""
    rng, right = np.random.default_rng(5), StepsPolicy(error=0.0)
    records = []
    for number, prompt in enumerate(StepsWorld(1, kind="logic", length=3).problems(n)):
        whole = right.solve(prompt, 1)[0]
        spoiled = [corrupt_chain(prompt, rng, kind="slip", rule="local") for _ in range(5)]
        for steps, labels in ((whole, (1.0, 1.0, 1.0)), *((made.steps, made.labels) for made in spoiled)):
            known = tuple(label if "opposite" in step else None for step, label in zip(steps, labels, strict=True))
            if any(label is not None for label in known):
                records.append(StepLabels(prompt=prompt, steps=steps, labels=known, meta={"idx": str(number)}))
    return records


@pytest.fixture(scope="module")
def logic_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A decoder of two layers, 64 wide, whose tokenizer knows the words of the steps world; its weights begin large, which is quicker."""
    import transformers as tf

    from preferent.models.tiny import tiny_tokenizer

    folder = tmp_path_factory.mktemp("logic")
    tokenizer = tiny_tokenizer([text for record in slips(20) for text in (record.prompt[0].content, *record.steps)], 400)
    config = tf.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        head_dim=16, initializer_range=0.2, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tf.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_planted_step_errors_are_found(logic_base: str, tmp_path: Path) -> None:
    """AUROC of single steps on problems that were not trained on; the checkpoint has temperature, threshold and aggregation."""
    records = slips(120)
    training, rest = [r for r in records if int(r.meta["idx"]) < 80], [r for r in records if int(r.meta["idx"]) >= 80]
    validation, test = [r for r in rest if int(r.meta["idx"]) < 100], [r for r in rest if int(r.meta["idx"]) >= 100]
    settings = {"base": logic_base, "max_steps": "180", "learning_rate": "3e-3", "batch.pairs": "16", "evaluate_every": "1000"}
    notes: list[str] = []

    class Listener(Observer):
        def noted(self, text: str) -> None:
            notes.append(text)

    result = train(training, validation, load_config(None, settings), tmp_path / "prm", observer=Listener())
    assert result.path == "shared"
    loaded = StepRewardModel.load(tmp_path / "prm")
    scores = loaded.score_steps(solutions(test))
    found = step_auroc(scores, [record.labels for record in test], range(len(test)), rng=np.random.default_rng(0), n_resamples=100)
    assert found.auroc.value >= 0.95
    card = json.loads((tmp_path / "prm" / "preferent.json").read_text())
    # A step that nobody labelled comes first in most of these solutions, so that their first error cannot be told.
    assert loaded.steps.threshold == card["metrics"].get("step_threshold", {}).get("value")
    if card["calibration"] is not None:
        assert card["calibration"]["n_pairs"] == sum(label is not None for record in validation for label in record.labels)
    assert notes


# ---- the run ----


def settings(base: str, **more: str) -> dict[str, str]:
    """90 solutions, 6 a step at least, two epochs; states every 2 steps."""
    given = {"base": base, "epochs": "2", "batch.pairs": "9", "learning_rate": "5e-3", "save_every": "2", "evaluate_every": "3"}
    return given | {key.replace("__", "."): value for key, value in more.items()}


def same_run(one: Path, other: Path) -> None:
    digests = [hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() for folder in (one, other)]
    assert digests[0] == digests[1]
    assert losses(one) == losses(other)
    assert losses(one, "held_out_nll") == losses(other, "held_out_nll")
    cards = [json.loads((folder / "preferent.json").read_text()) for folder in (one, other)]
    assert cards[0] == cards[1]


def test_a_killed_run_is_resumed_to_the_same_bytes(base: Base, run_job: RunJob, tmp_path: Path) -> None:
    more = {"early_stopping__patience": "9"}
    job: dict[str, Any] = {"config": settings(base(), **more), "world": "stepped"}
    assert run_job(output=tmp_path / "whole", **job) == 0
    assert run_job(output=tmp_path / "killed", signal_at=[9, signal.SIGKILL], **job) == -signal.SIGKILL
    assert run_job(output=tmp_path / "killed", resume=True, **job) == 0
    same_run(tmp_path / "whole", tmp_path / "killed")
    values = [value for _, value in losses(tmp_path / "whole", "held_out_nll")]
    best = json.loads((tmp_path / "whole" / "preferent.json").read_text())["metrics"]
    assert best["held_out_nll"] == pytest.approx(min(values), rel=1e-5)


@pytest.mark.parametrize("how", ["micro", "plain", "checkpointed"])
def test_how_a_run_is_carried_out_does_not_change_it(base: Base, tmp_path: Path, how: str) -> None:
    more = {"micro": {"micro_tokens": "120"}, "plain": {"share_prompts": "false"}, "checkpointed": {"gradient_checkpointing": "true"}}[how]
    for name, extra in (("one", {}), ("other", more)):
        config = load_config(None, {**settings(base(), max_steps="4"), **extra})
        train(stepped(12), stepped(4, seed=1), config, tmp_path / name)
    np.testing.assert_allclose([v for _, v in losses(tmp_path / "one")], [v for _, v in losses(tmp_path / "other")], rtol=2e-4)


@pytest.mark.parametrize("kind", ["qwen3", "bert"])
def test_lora_keeps_the_head_in_adapter_and_checkpoint(base: Base, tmp_path: Path, kind: str) -> None:
    from safetensors.torch import load_file

    config = load_config(None, {**settings(base(kind), max_steps="3"), "adapter.kind": "lora", "adapter.rank": "2"})
    train(stepped(12), stepped(4, seed=1), config, tmp_path / "prm")
    adapter = load_file(tmp_path / "prm" / "adapter" / "adapter_model.safetensors")
    head = next(tensor for name, tensor in adapter.items() if name.endswith(("score.weight", "classifier.weight")))
    loaded = StepRewardModel.load(tmp_path / "prm")
    torch.testing.assert_close(loaded.module.linear.get_parameter("weight"), head)
    assert len(loaded.score_steps(solutions(stepped(1)))) == 3
