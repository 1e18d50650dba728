"""The doctor's measurements against planted models and arithmetic, and its report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from preferent.core.errors import ModelError  # noqa: E402
from preferent.core.records import Exchange, user  # noqa: E402
from preferent.models.doctor import Check, Examination, examine, probe_exchanges  # noqa: E402
from preferent.models.doctor.measured import Measured, measure  # noqa: E402
from preferent.models.doctor.patient import Patient, open_patient  # noqa: E402
from preferent.models.doctor.scores import bf16_step, check_batch, check_half, check_pad_in_text, check_repeat  # noqa: E402


class FirstPadPooling(torch.nn.Module):
    """How classifiers pooled for years: one before the first pad id, wherever it stands."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model
        self.config = model.config

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        hidden = self.inner.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        at = (input_ids == self.config.pad_token_id).int().argmax(-1) - 1
        rows = torch.arange(len(input_ids))
        return type("Out", (), {"logits": self.inner.score(hidden[rows, at])})


def test_pooling_before_the_first_pad_loses_the_response(healthy_llama: Path) -> None:
    healthy = open_patient(healthy_llama)
    assert check_pad_in_text(healthy, measure(healthy, probe_exchanges())).passed
    patient = dataclasses.replace(healthy, model=FirstPadPooling(healthy.model))
    measured = measure(patient, probe_exchanges())
    check = check_pad_in_text(patient, measured)
    assert check.passed is False
    assert "the response is not seen" in check.detail
    # Elsewhere it looks healthy: without a pad in the text, argmax of nothing is 0 and -1 is the last token.
    assert check_batch(patient, measured).passed


def test_a_model_that_draws_random_numbers(healthy_llama: Path) -> None:
    patient = open_patient(healthy_llama)

    class Noisy(torch.nn.Module):
        def forward(self, **inputs: Any) -> Any:
            out = inner(**inputs)
            return type("Out", (), {"logits": out.logits + torch.rand(1)})

    inner: Any = patient.model
    noisy = Noisy()
    noisy.weight = inner.score.weight
    patient = dataclasses.replace(patient, model=noisy)
    assert check_repeat(patient, measure(patient, probe_exchanges())).passed is False


def test_expected_ties_by_hand() -> None:
    # Between 2 and 4 bf16 has 2^7 steps of 2/128 = 1/64; near 23 they are 16/128 = 1/8 (peers' README shows 23.0 and 23.125).
    assert bf16_step(np.array([2.0, 3.9, 23.0, 1.0])).tolist() == [1 / 64, 1 / 64, 1 / 8, 1 / 128]
    grid = torch.tensor([2.0, 3.0, 23.0, 1.0]).bfloat16()
    up = torch.nextafter(grid, torch.tensor(100.0).bfloat16())
    np.testing.assert_allclose((up - grid).float().numpy(), bf16_step(np.array([2.0, 3.0, 23.0, 1.0])))
    # Two prompts with gaps of 1/16 and 3/16 near 20: median 1/8 = the step, so sd = step / 0.6745 and ties = 0.6745 / sqrt(2 pi) = 26.9 %.
    exchanges = tuple(Exchange(prompt=user(prompt), response=response) for prompt in "pq" for response in "ab")
    measured = Measured(exchanges, (), (), np.array([23.0, 23.0625, 20.0, 20.1875]))
    patient = Patient("x", Path(), None, 1, {}, None)
    check = check_half(patient, measured)
    assert check.passed is False
    assert check.figure.startswith("about 26.9% of pairs would tie in bf16 (2 probed: median gap 0.12, bf16 step 0.12)")
    # Gaps of 6.25 at steps of 1/64 and 1/32: 0.6745 / sqrt(2 pi) x 0.0234 / 6.25 = 0.1 %.
    wide = check_half(patient, dataclasses.replace(measured, reward_N=np.array([-3.0, 3.25, 0.0, 6.25])))
    assert wide.passed
    assert wide.figure.startswith("about 0.1% of pairs")


def test_the_tie_estimate_is_what_rounding_does() -> None:
    """Against rounding itself: 200,000 pairs of gaps N(0, 0.3) around 10, where bf16 steps are 1/16."""
    rng = np.random.default_rng(0)
    a = rng.uniform(9, 11, 200_000)
    b = a + rng.normal(0, 0.3, a.size)
    rounded_a, rounded_b = (torch.from_numpy(x).bfloat16() for x in (a, b))
    counted = float((rounded_a == rounded_b).float().mean())
    exchanges = tuple(Exchange(prompt=user(str(i // 2)), response=str(i)) for i in range(2000))
    measured = Measured(exchanges, (), (), np.stack([a, b], 1)[:1000].ravel())
    figure = check_half(Patient("x", Path(), None, 1, {}, None), measured).figure
    assert float(figure.removeprefix("about ").partition("%")[0]) / 100 == pytest.approx(counted, rel=0.1)


def test_own_exchanges_are_used(healthy_llama: Path) -> None:
    mine = [Exchange(prompt=user("mine"), response=text) for text in ("one", "two words", "three short words")]
    assert examine(healthy_llama, exchanges=mine)["chat template"].figure.startswith("3 of 3")


def test_the_report_can_be_read_and_stored() -> None:
    checks = (
        Check("one", True, "1"),
        Check("two", False, "2", "because", "do this"),
        Check("three", None, "3", "not here"),
        Check("four", True, "4", "look", "at it", warning=True),
    )
    examination = Examination("some/model", checks)
    assert examination.render().splitlines() == [
        "examination of some/model",
        "",
        "  pass  one    1",
        "  FAIL  two    2",
        "               because",
        "               hint: do this",
        "  n/a   three  3",
        "               not here",
        "  warn  four   4",
        "               look",
        "               hint: at it",
        "",
        "  1 passed, 1 failed, 1 passed with a warning, 1 not applicable",
    ]
    stored = json.loads(json.dumps(examination.to_dict()))
    assert stored["healthy"] is False
    assert [row["sign"] for row in stored["checks"]] == ["pass", "FAIL", "n/a", "warn"]
    with pytest.raises(ModelError, match="there are one, two, three, four"):
        examination["five"]


def test_probes_are_varied_and_written_here() -> None:
    probes = probe_exchanges()
    assert len(probes) == 16
    lengths = sorted(len(probe.response) for probe in probes)
    assert lengths[0] < 10
    assert lengths[-1] > 400
    assert {len(probe.prompt) for probe in probes} == {1, 3}
    assert len({probe.prompt for probe in probes}) == 8
