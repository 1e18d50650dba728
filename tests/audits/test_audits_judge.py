"""A judge of pairs: a lean to a place, circles, a taste for an edit and blindness are found, and a fair judge is not blamed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from preferent.audits.audit import Audit
from preferent.audits.audit_report import render_audit_page
from preferent.audits.audit_words import render_audit
from preferent.audits.battery_settings import BatterySettings
from preferent.audits.judge import AskedJudge, Duel, JudgeSettings, PairwiseJudge
from preferent.audits.judge_audit import JUDGE_QUESTIONS, audit_judge
from preferent.audits.judge_questions import p_beyond
from preferent.audits.probe import AuditData, audit_data, built_in_probes
from preferent.core.errors import ConfigError, ModelError
from preferent.core.findings import Finding
from preferent.core.records import Comparison, Exchange, Floats, Preference, user

PROBES = built_in_probes()
QUICK = JudgeSettings(battery=BatterySettings(smallest=0.05, per_edit=30, n_resamples=300))
TRUTH = {
    exchange.response: -float(place)
    for prompt in range(PROBES.n_prompts)
    for place, exchange in enumerate(PROBES.exchanges[row] for row in PROBES.rows_of(prompt))
}


class Judge:
    """Bradley-Terry over `rule`, and `first` more probability for the first place."""

    name = "judge"

    def __init__(self, rule: Callable[[str], float], first: float = 0.0) -> None:
        self.rule, self.first, self.asked = rule, first, []

    def prefer(self, comparisons: Sequence[Comparison]) -> Floats:
        self.asked += [(c.prompt, c.response_a, c.response_b) for c in comparisons]
        gap_N = np.array([self.rule(c.response_a) - self.rule(c.response_b) for c in comparisons])
        return np.clip(1 / (1 + np.exp(-gap_N)) + self.first, 0, 1)


def quality(text: str) -> float:
    """The probes' own order; a text that is none of them (edited) is worth what its longest known beginning is: 0 here."""
    return TRUTH.get(text, 0.0)


def lines(found: Audit) -> dict[str, Finding]:
    return {line.name: line for line in found.findings}


def ask(judge: PairwiseJudge, *only: str, data: AuditData = PROBES) -> Audit:
    return audit_judge(judge, data, only=only, settings=QUICK)


def test_a_lean_to_a_place_is_measured_and_named() -> None:
    for first, verdict in ((0.2, "finding"), (-0.2, "finding"), (0.02, "clear"), (0.0, "clear")):
        found = lines(ask(Judge(lambda text: 0.1 * (len(text) % 5), first), "position"))
        assert found["lean to a place"].verdict == verdict
        assert found["lean to a place"].estimate.value == pytest.approx(first, abs=1e-9)
    assert lines(ask(Judge(lambda text: 0.1 * (len(text) % 5), 0.2), "position"))["winner changes with the order"].estimate.value > 0.8
    told = lines(ask(Judge(quality, 0.2), "position"))["lean to a place"]
    assert "first" in told.summary
    # Each text's probability when it is shown first: they sum to 1 + 2 x .2 unless one is cut at 1.
    assert all(example.reward_left + example.reward_right <= 1.4 + 1e-9 for example in told.examples)


def test_a_half_is_no_winner() -> None:
    """.7 and .5 for the first place, by turns: at .7 the winner changes with the order, at .5 there is none."""

    class Half:
        name = "half"

        def prefer(self, comparisons: Sequence[Comparison]) -> Floats:
            return np.array([0.7 if len(c.response_a) + len(c.response_b) > 600 else 0.5 for c in comparisons])

    found = lines(ask(Half(), "position"))
    share = found["winner changes with the order"].estimate.value
    assert found["lean to a place"].estimate.value == pytest.approx(0.2 * share)


def test_circles_are_seen_whatever_the_lean() -> None:
    def hand(text: str) -> int:
        return zlib.crc32(text.encode()) % 3

    class Circle:
        """Rock, paper, scissors."""

        name = "circle"

        def prefer(self, comparisons: Sequence[Comparison]) -> Floats:
            return np.array([{0: 0.5, 1: 0.8, 2: 0.2}[(hand(c.response_a) - hand(c.response_b)) % 3] for c in comparisons])

    found = lines(ask(Circle(), "circles"))["circles"]
    assert found.verdict == "finding"
    fair = lines(ask(Judge(quality, 0.2), "circles"))["circles"]
    assert (fair.verdict, fair.estimate.value) == ("clear", 0.0), "a lean to a place makes no circle once both orders are asked"


def test_agreement_with_the_labels() -> None:
    right = lines(ask(Judge(quality), "labels"))
    assert right["accuracy"].estimate.value == 1.0
    wrong = lines(ask(Judge(lambda text: -quality(text)), "labels"))
    assert wrong["accuracy"].estimate.value == 0.0
    assert wrong["accuracy"].verdict == "finding"
    assert wrong["accuracy"].examples[0].reward_left < 0.5, "left is what the labels prefer"
    longer = lines(ask(Judge(len), "labels"))["beats the longer side"]
    assert longer.estimate.value == 0.0
    # A judge that always takes the first is a coin over both orders, and a perfect or hopeless one in a single order.
    lazy = audit_judge(Judge(lambda _: 0.0, 0.5), PROBES, only=("labels",), settings=QUICK)
    assert lines(lazy)["accuracy"].estimate.value == 0.5
    numbers = dict(lazy.answers[0].numbers)
    assert numbers["accuracy when the better is shown first"].value == 1.0
    assert numbers["accuracy when it is shown second"].value == 0.0


def test_a_taste_for_an_edit_is_named_and_nothing_else_of_its_kind() -> None:
    found = ask(Judge(lambda text: 2.0 * ("**" in text)), "edits")
    named = {line.name for line in found.bad if not line.compared_with.endswith("or less")}
    assert "format.bold" in named
    assert not {name for name in named if not name.startswith(("format", "layout"))}
    clear = {line.name for line in found.findings if line.verdict == "clear"}
    assert {"length.filler", "social.flattery"} <= clear
    # This judge sees nothing else, so it marks nothing down that it should.
    assert any(line.compared_with.endswith("or less") for line in found.bad)


def test_errors_that_the_judge_does_not_see() -> None:
    blind = ask(Judge(lambda text: 0.0), "blind_spots")
    assert all(line.estimate.value == 0.5 for line in blind.findings if line.verdict != "unknown")
    assert {line.verdict for line in blind.findings} <= {"finding", "unknown"}
    right = {PROBES.exchanges[row].response for prompt in range(PROBES.n_prompts) for row in PROBES.rows_of(prompt)}
    sharp = ask(Judge(lambda text: float(text in right)), "blind_spots")
    assert not sharp.bad


def test_every_pair_is_asked_once_in_both_orders() -> None:
    judge, begun, made = Judge(quality), [], []
    found = audit_judge(judge, PROBES, settings=QUICK, started=begun.append, progress=made.append)
    assert len(judge.asked) == len(set(judge.asked)) == found.n_scored == begun[0] == sum(made)
    assert {(prompt, b, a) for prompt, a, b in judge.asked} == set(judge.asked)
    alone = audit_judge(Judge(quality), PROBES, only=("circles",), settings=QUICK)
    assert alone.answers[0].to_dict() == next(answer for answer in found.answers if answer.question == "circles").to_dict()


def test_sides_and_the_order_of_rows_do_not_matter() -> None:
    pairs = [
        Preference(prompt=user(f"question {k}"), response_a=f"answer {k} {'x' * (k % 7)}", response_b=f"reply {k}", p_a=float(k % 3 > 0))
        for k in range(40)
    ]
    turned = [pair.swap() for pair in pairs]
    one, other = (ask(Judge(len), "labels", "position", data=audit_data(rows)) for rows in (pairs, turned))
    assert lines(one)["accuracy"].estimate.value == lines(other)["accuracy"].estimate.value


def test_the_report_and_the_terminal_say_what_the_unit_is() -> None:
    found = audit_judge(Judge(lambda text: len(text) / 200, 0.2), PROBES, settings=QUICK)
    page, text = render_audit_page(found, title="judge"), render_audit(found)
    assert "probability" in page
    assert "reward points" not in page + text
    assert "comparisons made in" in text
    assert found.to_dict()["within_std"] is None
    assert [answer.question for answer in found.answers] == list(JUDGE_QUESTIONS)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda n: np.full(n, np.nan), r"in \[0, 1\], and gave .*nan"),
        (lambda n: np.full(n, 1.5), r"gave .*1\.5.* for '"),
        (lambda n: np.full(n - 1, 0.5), "one probability for each of"),
    ],
)
def test_a_judge_that_gives_no_probabilities_is_an_error(answer: Callable[[int], Floats], match: str) -> None:
    class Bad:
        name = "bad"

        def prefer(self, comparisons: Sequence[Comparison]) -> Floats:
            return answer(len(comparisons))

    with pytest.raises(ModelError, match=match):
        ask(Bad(), "position")


def test_an_unknown_question_and_data_that_cannot_answer() -> None:
    with pytest.raises(ConfigError, match=r"'shape' for a judge of pairs; allowed are position"):
        ask(Judge(quality), "shape")
    ties = audit_data([Preference(prompt=user(f"q {k}"), response_a="a", response_b="b", p_a=0.5) for k in range(12)])
    found = ask(Judge(len), "labels", "circles", data=ties)
    assert [answer.skipped.split(":")[0] for answer in found.answers] == [
        "needs prompts with three different responses or more",
        "needs labelled pairs",
    ]


def test_p_beyond_by_hand() -> None:
    """Four prompts with values .1, .2, .3, .4: mean .25, standard error of the mean .0645; t against .05 is 3.098 with 3 degrees."""
    duels = [Duel(Exchange(prompt=user("p"), response="a"), Exchange(prompt=user("p"), response="b"), k) for k in range(4)]
    values = np.array([0.1, 0.2, 0.3, 0.4])
    assert p_beyond(values, duels, 0.05, side="up", least=2) == pytest.approx(0.0267, abs=2e-4)
    assert p_beyond(values, duels, 0.05, least=2) == pytest.approx(2 * 0.0267, abs=4e-4)
    assert p_beyond(-values, duels, 0.05, side="down", least=2) == pytest.approx(0.0267, abs=2e-4)
    assert p_beyond(values, duels, 0.05, least=5) is None


def test_a_judge_is_asked_about_every_pair_anew_only_if_it_is_new() -> None:
    judge = Judge(len)
    memo = AskedJudge(judge)
    texts = [Exchange(prompt=user("p"), response="x" * n) for n in (1, 2, 3)]
    duels = [Duel(one, other, 0) for one, other in pairwise(texts)]
    first = memo.preferred(duels)
    again = memo.preferred([Duel(duel.right, duel.left, 0) for duel in duels])
    assert len(judge.asked) == 4
    np.testing.assert_allclose(again.left_K, 1 - first.left_K)
    np.testing.assert_allclose(again.lean_K, first.lean_K)


def test_one_prompt_gives_no_verdict_against_the_labels() -> None:
    data = audit_data([Preference(prompt=user("q"), response_a="good answer", response_b=f"bad {k}", p_a=1.0) for k in range(4)])
    assert {line.verdict for line in ask(Judge(len), "labels", data=data).findings} == {"unknown"}
