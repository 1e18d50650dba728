"""Experiment 1 at small size: the law fits, the peak comes earlier with noise and with less data, KL and variance are as in theory."""

from __future__ import annotations

import json
from math import log

import numpy as np
import pytest
from lab_parts import parts

from preferent.core.best_of_n import kl_bound
from preferent.core.errors import ConfigError
from preferent.lab.experiments.over_optimisation import Findings, OverOptimisation, run_seeds, teach
from preferent.lab.experiments.over_optimisation_outcome import outcome

SMALL = OverOptimisation(seeds=(4, 5), comparisons=(200, 800), noise=(0.0, 0.25), prompts=8, pool=700, largest_n=512)


@pytest.fixture(scope="module")
def found() -> Findings:
    return run_seeds(SMALL, parts())


def test_gold_turns_while_the_proxy_rises(found: Findings) -> None:
    for arm in found.arms:
        assert (np.diff(arm.proxy_SK.mean(axis=0)) > 0).all()
        assert arm.gold_SK.mean(axis=0).max() > arm.gold_SK[:, 0].mean() + 0.05
    noisy = found.arms[1].gold_SK.mean(axis=0)
    assert 1 < found.ns[int(noisy.argmax())] < 128
    assert noisy[-1] < noisy.max() - 0.015


def test_the_law_fits_and_its_peak_moves_as_published(found: Findings) -> None:
    few, few_noisy, many, many_noisy = found.arms
    assert min(arm.law.r_squared for arm in found.arms) >= 0.9
    assert few.peak_d.value < many.peak_d.value
    assert few_noisy.peak_d.value < few.peak_d.value
    assert many_noisy.peak_d.value < many.peak_d.value
    assert many_noisy.accuracy_S.mean() < many.accuracy_S.mean()


def test_exact_kl_is_the_bound_for_the_model_and_less_for_a_coarse_judge(found: Findings) -> None:
    bound = np.array([kl_bound(n) for n in found.ns])
    for arm in found.arms:
        assert (arm.kl_SK <= bound + 1e-12).all()
        assert arm.kl_SK[:, :6] == pytest.approx(np.tile(bound[:6], (2, 1)), abs=2e-3)
    coarse = found.coarse_SK.mean(axis=0)
    assert coarse[-1] < bound[-1] - 0.2
    assert coarse.max() <= log(SMALL.pool)


def test_all_subsets_vary_less_than_blocks(found: Findings) -> None:
    for subsets, blocks in found.variance:
        assert (blocks > 1.2 * subsets).all()


def test_noisier_arms_answer_the_same_questions() -> None:
    tiny = OverOptimisation(seeds=(0,), comparisons=(400,), noise=(0.0, 0.25), prompts=2, pool=16, largest_n=16)
    lesson = teach(tiny, 0)
    clean, noisy = lesson.preferences[0.0], lesson.preferences[0.25]
    assert [(one.prompt, one.response_a) for one in clean] == [(one.prompt, one.response_a) for one in noisy]
    turned = np.mean([one.p_a != other.p_a for one, other in zip(clean, noisy, strict=True)])
    assert turned == pytest.approx(0.25, abs=4 * 0.5 / 20)


def test_told_with_every_number(found: Findings) -> None:
    told = outcome(SMALL, found)
    assert [check.passed for check in told.checks[:1]] == [True]
    data = json.loads(json.dumps(told.to_dict(), allow_nan=False))
    assert data["settings"]["comparisons"] == [200, 800]
    assert np.array(data["data"]["arms"][3]["gold"]) == pytest.approx(found.arms[3].gold_SK)
    assert len(told.tables[0].rows) == 4
    assert {panel.title for panel in told.figures[0].panels} == {"true reward, 0% noise", "true reward, 25% noise"}


def test_a_pool_smaller_than_n_is_refused() -> None:
    with pytest.raises(ConfigError, match="pool is 100"):
        run_seeds(OverOptimisation(pool=100, largest_n=512), parts())
    with pytest.raises(ConfigError, match="powers of two"):
        run_seeds(OverOptimisation(largest_n=500), parts())
