"""Reward and annotators fitted together: who is believed, that it pays, and that it is the model it says it is."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from loop_worlds import crowd, losses, planted

from preferent.core.errors import ConfigError
from preferent.core.records import Preference, Vote
from preferent.training.config import Joint, load_config
from preferent.training.groups import group_records
from preferent.training.losses import annotator_logits, annotator_prior
from preferent.training.run import train
from preferent.training.skills import annotators_of, skills

Base = Callable[..., str]
JOINT = {"votes.kind": "joint", "votes.learning_rate": "0.1"}


def settings(base: str, **more: str) -> dict[str, str]:
    return {"base": base, "epochs": "3", "learning_rate": "5e-3", **{key.replace("__", "."): value for key, value in more.items()}}


def test_the_logits_are_slope_times_difference_plus_position() -> None:
    d, slope, position, first = (torch.tensor(values) for values in ([2.0, 2.0, 2.0], [1.0, -1.5, 0.0], [0.5, 0.5, 0.7], [1.0, -1.0, 0.0]))
    # 1 x 2 + 0.5; -1.5 x 2 - 0.5; 0 x 2 + 0
    assert annotator_logits(d, slope, position, first).tolist() == [2.5, -3.5, 0.0]
    # (0.5 / 0.5)^2 / 2 + (1 / 0.5)^2 / 2 = 0.5 + 2
    assert float(annotator_prior(torch.tensor([[0.5, 0.0], [0.0, 1.0]]), torch.tensor([0.5, 0.5]))) == pytest.approx(2.5)


def test_the_layer_has_the_gradients_it_should() -> None:
    torch.manual_seed(0)
    d, slope, position = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(3))
    first = torch.tensor([1.0, -1.0, 0.0, 1.0, -1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: annotator_logits(*x, first), (d, slope, position))
    deviation = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: annotator_prior(x, torch.tensor([0.5, 0.3], dtype=torch.float64)), (deviation,))


def test_a_vote_and_its_mirror_are_the_same_edge() -> None:
    one = crowd(1)[0]
    mirror = one.model_copy(update={"response_a": one.response_b, "response_b": one.response_a, "p_a": 1.0 - one.p_a,
                                    "shown_first": "b" if one.shown_first == "a" else "a"})  # fmt: skip
    names = annotators_of([one])
    (first,), (second,) = group_records([one], annotators=names), group_records([mirror], annotators=names)
    assert (first.p_E[0], first.first_E[0], first.annotator_E[0]) == (1.0 - second.p_E[0], -second.first_E[0], second.annotator_E[0])
    assert first.exchanges == second.exchanges[::-1]
    assert group_records([one])[0].annotator_E.tolist() == [-1]


def test_joint_training_finds_the_annotators_and_learns_better_than_believing_everybody(base: Base, tmp_path: Path) -> None:
    votes, held_out = crowd(400), planted(150, seed=2)
    joint = train(votes, held_out, load_config(None, settings(base(), **JOINT)), tmp_path / "joint")
    everybody = [
        Preference(prompt=vote.prompt, response_a=vote.response_a, response_b=vote.response_b, p_a=vote.p_a, id=vote.id) for vote in votes
    ]
    plain = train(everybody, held_out, load_config(None, settings(base())), tmp_path / "plain")
    assert joint.held_out_accuracy is not None
    assert plain.held_out_accuracy is not None
    assert joint.held_out_accuracy >= 0.95 > plain.held_out_accuracy
    kinds = {skill.annotator_id: [flag.split(":")[0] for flag in skill.flags] for skill in joint.skills}
    assert all(("adversary" in flags) == name.startswith("adversary") for name, flags in kinds.items())
    assert all(("position" in flags) == name.startswith("left") for name, flags in kinds.items()), kinds
    written = [json.loads(line) for line in (tmp_path / "joint" / "annotators.jsonl").read_text().splitlines()]
    assert written == [skill.to_dict() for skill in joint.skills]
    assert not (tmp_path / "plain" / "annotators.jsonl").exists()


def test_the_order_of_names_does_not_matter(base: Base, tmp_path: Path) -> None:
    votes = crowd(60)
    renamed = [vote.model_copy(update={"annotator_id": vote.annotator_id[::-1]}) for vote in votes]
    config = load_config(None, settings(base(), **JOINT))
    ends = [train(data, [], config, tmp_path / str(n)) for n, data in enumerate((votes, renamed))]
    by_name = [{skill.annotator_id: skill.slope for skill in end.skills} for end in ends]
    assert by_name[0] == pytest.approx({name[::-1]: slope for name, slope in by_name[1].items()}, abs=1e-5)


def test_a_killed_joint_run_ends_with_the_same_bytes(base: Base, run_job: Callable[..., int], tmp_path: Path) -> None:
    config = {**settings(base()), **JOINT, "batch.pairs": "4", "epochs": "1", "save_every": "3"}
    assert run_job(output=tmp_path / "whole", config=config, votes=True) == 0
    assert run_job(output=tmp_path / "cut", config=config, votes=True, signal_at=[8, signal.SIGKILL]) == -signal.SIGKILL
    assert run_job(output=tmp_path / "cut", config=config, votes=True, resume=True) == 0
    for name in ("model.safetensors", "annotators.jsonl"):
        assert len({hashlib.sha256((tmp_path / run / name).read_bytes()).hexdigest() for run in ("whole", "cut")}) == 1, name
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_intervals_are_the_prior_without_votes_and_narrow_with_them() -> None:
    # No vote: sd 0.5 around slope 1, so 1 +- 0.98. A hundred votes at d = 2 with the label sigmoid(2): the most probable slope is 1, the
    # information 100 x 0.881 x 0.119 x 4 + 4 = 46, the sd 0.147. The display order is balanced, so that it says nothing.
    d_E, first_E = np.full(100, 2.0), np.tile([-1.0, 1.0], 50)
    quiet, busy = skills(["q", "b"], d_E, np.ones(100, dtype=np.int64), first_E, np.full(100, 1 / (1 + np.exp(-2.0))), Joint())
    assert (quiet.slope_low, quiet.slope_high) == pytest.approx((1 - 0.98, 1 + 0.98), abs=1e-3)
    assert (busy.slope, busy.position) == pytest.approx((1.0, 0.0), abs=1e-6)
    assert busy.slope_high - 1.0 == pytest.approx(1.96 * 0.147, abs=0.01)
    assert (quiet.votes, busy.votes) == (0, 100)


def test_planted_traits_are_recovered_by_the_fit() -> None:
    rng = np.random.default_rng(1)
    slope_A, position_A = rng.normal(1, 0.8, 20), rng.normal(0, 0.5, 20)
    who, d, first = rng.integers(20, size=40_000), rng.normal(0, 2, 40_000), rng.choice([-1.0, 1.0], 40_000)
    p = 1 / (1 + np.exp(-(slope_A[who] * d + position_A[who] * first)))
    found = skills([str(a) for a in range(20)], d, who, first, (rng.random(40_000) < p).astype(float), Joint(slope_sd=1.0))
    assert np.abs([one.slope - slope for one, slope in zip(found, slope_A, strict=True)]).max() < 0.15
    inside = [one.position_low <= truth <= one.position_high for one, truth in zip(found, position_A, strict=True)]
    assert sum(inside) >= 17


@pytest.mark.parametrize(
    ("records", "more", "message"),
    [
        (crowd(4), {}, "votes.kind is 'aggregated'"),
        (planted(4), {"votes__kind": "joint"}, "no record says whose vote"),
        (crowd(4), {"votes__kind": "joint", "loss__kind": "davidson"}, "goes with loss.kind 'bradley_terry'"),
    ],
)
def test_settings_that_do_not_fit_the_records_are_refused(
    base: Base, tmp_path: Path, records: list[Vote], more: dict[str, str], message: str
):
    with pytest.raises(ConfigError, match=message):
        train(records, [], load_config(None, settings(base(), **more)), tmp_path / "out")
