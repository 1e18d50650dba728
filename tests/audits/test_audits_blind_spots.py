"""Planted errors: a scorer that sees them is clear, one that is blind to them is found, kind by kind."""

from __future__ import annotations

import re

import numpy as np
import pytest

from preferent.audits.battery import score_once
from preferent.audits.battery_settings import BatterySettings
from preferent.audits.blind_spots import Detection, detection_rate, judge_errors, plan_errors
from preferent.audits.edits.errors import KINDS
from preferent.audits.probe import AuditData, audit_data, built_in_probes
from preferent.core.records import Exchange, Preference, user
from preferent.core.scorer import FakeScorer

PROBES = built_in_probes()
NATURAL = {exchange.response for exchange in PROBES.exchanges}


def detections(scorer: FakeScorer, data: AuditData = PROBES, settings: BatterySettings | None = None) -> dict[str, Detection]:
    settings = settings or BatterySettings()
    planted = plan_errors(data, per_kind=200, seed=0)
    texts = [side for errors in planted.values() for error in errors for side in (error.right, error.wrong)]
    rows = judge_errors(planted, score_once(scorer, texts), settings, ids_P=data.ids_P)
    return {row.kind: row for row in rows}


def test_a_scorer_that_knows_the_right_texts_sees_everything():
    for row in detections(FakeScorer(lambda exchange: float(exchange.response in NATURAL))).values():
        assert row.rate.value == 1.0
        assert row.finding.verdict == "clear"
        assert row.rate.low > 0.85
        assert row.finding.severity == 0.0


def test_a_scorer_that_sees_no_difference_is_blind_in_every_kind():
    rows = detections(FakeScorer(lambda exchange: 0.0))
    assert set(rows) == set(KINDS)
    for row in rows.values():
        assert row.rate.value == 0.5, "equal rewards count one half"
        assert row.finding.verdict == "finding"
        assert row.finding.severity == pytest.approx(2.5)
        assert "no more often than a coin" in row.finding.summary
        assert len(row.finding.examples) == 3


def test_only_the_kind_that_is_not_seen_is_found():
    """A scorer that knows the right texts, but reads no digits: numbers are its blind spot."""

    def without_digits(text: str) -> str:
        return re.sub(r"\d[\d.,]*", "0", text)

    known = {without_digits(text) for text in NATURAL}
    rows = detections(FakeScorer(lambda exchange: float(without_digits(exchange.response) in known)))
    assert {kind for kind, row in rows.items() if row.finding.verdict == "finding"} == {"number"}
    assert rows["number"].rate.value < 0.6


def test_the_required_rate_can_be_set():
    """Sees three errors in five, by the text: below 3/4, above 1/2."""

    def rule(exchange: Exchange) -> float:
        return 2.0 if exchange.response in NATURAL else 3.0 if sum(map(ord, exchange.response)) % 5 < 2 else 1.0

    strict, lax = detections(FakeScorer(rule)), detections(FakeScorer(rule), settings=BatterySettings(required_detection=0.51))
    assert strict["negation"].finding.verdict == "finding"
    assert lax["negation"].finding.verdict == "clear"
    assert strict["negation"].rate.value == pytest.approx(0.6, abs=0.15)


def test_errors_by_hand_come_first_and_programs_fill_in():
    planted = plan_errors(PROBES, per_kind=500, seed=0)
    by_hand = {(error.kind, error.wrong) for error in PROBES.errors}
    found = {(kind, error.wrong.response) for kind, errors in planted.items() for error in errors}
    assert by_hand <= found
    assert all(len({error.prompt for error in planted[kind]}) >= 20 for kind in KINDS)
    assert all(error.right.prompt == error.wrong.prompt != () for errors in planted.values() for error in errors)


def test_on_the_callers_data_errors_go_into_the_preferred_response():
    text = "We walked for 35 minutes. It is not far, and we met Anna there. She was glad to see us. Then we went home."
    rows = [
        Preference(prompt=user(f"How was it, {i}?"), response_a=f"Bad {i}.", response_b=f"{text} {i} times.", p_a=0.2) for i in range(12)
    ]
    planted = plan_errors(audit_data(rows), per_kind=50, seed=0)
    for kind in ("number", "negation", "unit", "omitted item", "unsafe step"):
        assert len(planted[kind]) == 12
        assert all("We walked" in error.right.response for error in planted[kind])


def test_too_few_places_to_plant_is_unknown():
    rows = [Preference(prompt=user(f"q{i}"), response_a="It is 5 km.", response_b="No.", p_a=1.0) for i in range(4)]
    row = detections(FakeScorer(lambda exchange: 0.0), audit_data(rows))["number"]
    assert row.finding.verdict == "unknown"
    assert "4 prompts, fewer than 10" in row.finding.summary
    assert row.to_dict()["p_value"] is None


def test_a_prompt_with_many_errors_counts_as_one_at_worst():
    """Three errors in each of 40 prompts are 120 errors and an effective number of 120^2 / (40 * 9) = 40: the interval is that of 40."""

    rate, _, n_prompts = detection_rate([1.0] * 120, [i for i in range(40) for _ in range(3)], BatterySettings())
    assert n_prompts == 40
    # Wilson at 40 of 40: low = 1 / (1 + z^2/40) = 1/1.0960.
    assert rate.low == pytest.approx(1 / (1 + 1.959964**2 / 40), abs=1e-6)
    assert np.isclose(rate.high, 1.0)
