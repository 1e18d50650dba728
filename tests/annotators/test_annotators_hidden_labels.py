"""Mean and variance of utility: intervals that cover, the contract of aggregators, and what the command writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import ndtr

from preferent.annotators.bradley_terry import Settings
from preferent.annotators.contract import check_aggregator, simulated_pairs
from preferent.annotators.graph import describe, pair_table, pair_votes
from preferent.annotators.hidden_context import BASE_SD, distributional_objective, fit_distributional
from preferent.annotators.hidden_labels import hidden_context
from preferent.annotators.hidden_spread import hidden_spread
from preferent.cli.main import preferent


def test_the_contract_holds() -> None:
    tight = Settings(tolerance=1e-12, max_iterations=2000)
    seen = check_aggregator(lambda table: hidden_context(table, tight), simulated_pairs(np.random.default_rng(0)))
    assert seen["every vote twice, shared"] < 1e-9


def test_intervals_cover_means_sds_and_chances() -> None:
    covered = []
    for seed in range(12):  # 16 items each: se of a coverage of .95 over 192 is .016, pairs more
        rng = np.random.default_rng(seed)
        mean, sd = rng.normal(0, 1.5, 16), BASE_SD * np.exp(rng.normal(0, 0.5, 16))
        i = rng.integers(0, 16, 1500)
        j = (i + rng.integers(1, 16, 1500)) % 16
        won = mean[i] + sd[i] * rng.normal(size=1500) > mean[j] + sd[j] * rng.normal(size=1500)
        fit = fit_distributional(pair_votes(np.stack([i, j], 1), won.astype(float), counts=(16, None)))
        p = ndtr((mean[fit.lo_P] - mean[fit.hi_P]) / np.hypot(sd[fit.lo_P], sd[fit.hi_P]))
        covered.append([np.mean((band.low < x) & (x < band.high)) for band, x in ((fit.mean, mean), (fit.sd, sd), (fit.p_lo, p))])
    assert np.mean(covered, axis=0) == pytest.approx(0.95, abs=0.04)


def test_variances_are_those_of_one_big_inverse_whatever_the_components() -> None:
    # Components of three, two and two items, and an item without votes.
    pairs = np.array([[0, 1], [1, 2], [0, 2], [3, 4], [5, 6]])
    rng = np.random.default_rng(1)
    table = pair_table(pair_votes(np.repeat(pairs, 30, axis=0), rng.integers(0, 2, 150).astype(float), counts=(8, None)))
    mean, log = rng.normal(size=8), rng.normal(0, 0.3, 8)
    found = hidden_spread(mean, BASE_SD * np.exp(log), table, describe(table), (1.5, 0.5))
    assert found.exact
    # Expected information: the mean of the second derivatives over votes drawn from the model, here with each win share at its chance.
    z = (mean[table.lo_P] - mean[table.hi_P]) / np.sqrt((BASE_SD * np.exp(log[table.lo_P])) ** 2 + (BASE_SD * np.exp(log[table.hi_P])) ** 2)
    expected = type(table)(table.lo_P, table.hi_P, table.start_P, table.annotator_V, table.spread_V(ndtr(z)), None, None, table.active_A, 8)
    point, step = np.concatenate([mean, log]), 1e-4
    hessian = np.empty((16, 16))
    for k in range(16):
        ends = [distributional_objective(point + sign * step * np.eye(16)[k], expected, 1.5, 0.5)[1] for sign in (1, -1)]
        hessian[k] = (ends[0] - ends[1]) / (2 * step)
    covariance = np.linalg.inv(hessian)
    np.testing.assert_allclose(np.concatenate([found.mean_I, found.log_I]), np.diag(covariance), rtol=1e-4)
    assert found.mean_I[7] == pytest.approx(1.5**2)
    assert found.log_I[7] == pytest.approx(0.5**2)


def test_the_command_writes_mean_and_variance_of_every_response(tmp_path: Path) -> None:
    """Response r4 is loved by half of the people and hated by the others; all others are seen alike by all."""
    rng = np.random.default_rng(2)
    rows = []
    for person in range(40):
        utility = np.linspace(-2, 2, 9) + rng.normal(0, 0.4, 9)
        utility[4] = 4.0 if person % 2 else -4.0
        for i, j in zip(*np.triu_indices(9, 1), strict=True):
            choice = "a" if utility[i] > utility[j] else "b"
            row = {"comparison_id": f"{i}-{j}", "annotator_id": f"p{person}", "choice": choice}
            rows.append(row | {"response_a_id": f"r{i}", "response_b_id": f"r{j}"})
    judgments, out, responses = (tmp_path / name for name in ("judgments.jsonl", "out.jsonl", "responses.jsonl"))
    judgments.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["aggregate", judgments, "-o", out, "--model", "hidden_context"]
    result = CliRunner().invoke(preferent, [str(word) for word in (*words, "--responses", responses, "--json")], standalone_mode=False)
    assert result.exception is None
    assert json.loads(result.stdout)["model"] == "hidden_context"
    told = {row["response_id"]: row for row in map(json.loads, responses.read_text(encoding="utf-8").splitlines())}
    for row in told.values():
        assert row["low"] < row["score"] < row["high"]
        assert 0 < row["variance_low"] < row["variance"] < row["variance_high"]
    assert max(told, key=lambda name: told[name]["variance"]) == "r4"
    assert told["r4"]["variance_low"] > max(row["variance_high"] for name, row in told.items() if name in ("r3", "r5"))
    pairs = {row["comparison_id"]: row for row in map(json.loads, out.read_text(encoding="utf-8").splitlines())}
    assert pairs["0-8"]["high"] < 0.1
    assert all(row["low"] <= row["p_a"] <= row["high"] for row in pairs.values())
    refused = CliRunner().invoke(
        preferent, [str(w) for w in (*words, "--force", "--annotators", tmp_path / "a.jsonl")], standalone_mode=False
    )
    assert "knows nothing of annotators" in str(refused.exception)
