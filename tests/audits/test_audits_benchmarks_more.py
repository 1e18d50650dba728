"""The rules of JudgeBench, LLMBar, ProcessBench and PPE on fixtures small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest
from benchmark_items import arrays, boot, located, values

from preferent.audits.benchmarks import judgebench, llmbar, ppe, processbench
from preferent.audits.benchmarks.items import Item
from preferent.audits.benchmarks.registry import benchmark_of
from preferent.audits.benchmarks.run import run
from preferent.audits.steps import choose_threshold, first_error_f1, predicted_first_error
from preferent.core.errors import ConfigError, DataError, ModelError
from preferent.core.records import Scores, user
from preferent.core.scorer import FakeScorer

# ---- JudgeBench ----


def test_judgebench_reads_a_tie_as_b():
    """The right side is A and wins, A and ties (read as B: wrong), B and ties (right), B and loses: 2 of 4."""
    row = {
        "pair_id": "1",
        "question": "q",
        "response_A": "a",
        "response_B": "b",
        "label": "A>B",
        "source": "mmlu-pro-law",
        "response_model": "m",
    }
    items = judgebench.rows_to_items(located([row, row, row | {"label": "B>A"}, row | {"label": "B>A", "source": "livecodebench"}]))
    assert [item.responses for item in items] == [("a", "b"), ("a", "b"), ("b", "a"), ("b", "a")]
    result = judgebench.score(items, arrays((2, 1), (1, 1), (1, 1), (1, 2)), boot())
    assert result.score.value == 0.5
    assert values(result)["Knowledge"] == pytest.approx(2 / 3)
    assert values(result)["Coding"] == 0.0
    assert result.notes == ("2 ties, of which 1 count as right because B is",)


def test_judgebench_rows_of_the_common_shape_keep_the_slot():
    row = {
        "prompt": "q",
        "chosen": "right",
        "rejected": "wrong",
        "source": "judgebench",
        "meta": {"subset": "livebench-math", "chosen_slot": 2},
    }
    (item,) = judgebench.rows_to_items(located([row]))
    assert (item.subset, item.responses, item.meta["slot"]) == ("Math", ("right", "wrong"), 2)
    with pytest.raises(DataError, match=r"meta\.chosen_slot is None; allowed: 1, 2"):
        judgebench.rows_to_items(located([row | {"meta": {"subset": "livebench-math"}}]))
    with pytest.raises(DataError, match="source 'trivia'; allowed are those that begin with mmlu-pro"):
        judgebench.rows_to_items(located([row | {"meta": {"subset": "trivia", "chosen_slot": 1}}]))


def test_a_judge_in_both_orders():
    """Right is A each time. Second verdicts are in the letters of the swapped order.

    1: A>B, B>A (= A again): +2, right. 2: A>B, A>B (= B): 0. 3: A>B, A=B: +1, right but not consistent. 4: B>A, B>A (= A): 0.
    5: none, B>A (= A): +1, right. 6: B>A, A>B (= B): -2. Score 3/6, consistent 1/6, inconsistent 4/6 (2, 3, 4, 5).
    """
    first = ["A>B", "A>B", "A>B", "B>A", None, "B>A"]
    second = ["B>A", "A>B", "A=B", "B>A", "B>A", "A>B"]
    found = judgebench.judge_accuracy(first, second, ["A>B"] * 6, range(6), boot())
    assert [found[name].value for name in ("score", "consistent", "inconsistent")] == pytest.approx([3 / 6, 1 / 6, 4 / 6])
    with pytest.raises(DataError, match="second verdicts 'B'"):
        judgebench.judge_accuracy(["A>B"], ["B"], ["A>B"], [1], boot())


# ---- LLMBar ----


def test_llmbar_averages_without_weights_and_a_tie_is_half():
    """Natural: right, right -> 1. Manual: tie -> 1/2. GPTOut: wrong, wrong, right -> 1/3. Adversarial (1/2 + 1/3) / 2 = 5/12;
    score (1 + 1/2 + 1/3) / 3 = 11/18. The case study counts nowhere."""
    row = {"input": "i", "output_1": "x", "output_2": "y", "label": 2}
    paths = ["Natural"] * 2 + ["Adversarial/Manual"] + ["Adversarial/GPTOut"] * 3 + ["CaseStudy/Base_9"]
    rows = [(f"Dataset/{'' if 'Case' in path else 'LLMBar/'}{path}/dataset.json:{n}", row) for n, path in enumerate(paths)]
    items = llmbar.rows_to_items(rows)
    assert items[0].responses == ("y", "x")
    result = llmbar.score(items, arrays((2, 1), (2, 1), (1, 1), (0, 1), (0, 1), (1, 0), (0, 1)), boot())
    found = values(result)
    assert found["Adversarial"] == pytest.approx(5 / 12)
    assert found["score"] == pytest.approx(11 / 18)
    assert found["CaseStudy/Base_9"] == 0.0
    with pytest.raises(DataError, match="neither the row nor the file's path names a subset"):
        llmbar.rows_to_items(located([row]))
    with pytest.raises(DataError, match="label is 3; allowed: 1, 2"):
        llmbar.rows_to_items([(rows[0][0], row | {"label": 3})])


# ---- ProcessBench ----


def process_item(label, subset="gsm8k", n=3, name="p"):
    return Item(name, "f:1", subset, user(name), ("s",) * n, 0, {"label": label})


def test_processbench_f1_by_hand():
    """Threshold 0. With an error: label 1, first below 0 is step 1 (hit); label 0, first below is 1 (miss): 1/2.
    Without: none below (hit), one below (miss), none (hit): 2/3. F1 = 2 (1/2)(2/3) / (1/2 + 2/3) = (2/3) / (7/6) = 4/7."""
    items = [process_item(label, name=f"p{n}") for n, label in enumerate((1, 0, -1, -1, -1))]
    rewards = arrays((1, -1, -1), (1, -1, 1), (1, 1, 1), (1, 1, -0.1), (0, 0, 0))
    result = processbench.score(items, rewards, boot(), threshold=0.0)
    assert result.score.value == pytest.approx(4 / 7)
    assert values(result)["gsm8k with an error"] == 0.5


def test_processbench_averages_f1_over_subsets_and_nothing_right_is_zero():
    items = [process_item(0), process_item(-1), process_item(0, "math"), process_item(-1, "math")]
    result = processbench.score(items, arrays((-1, 0, 0), (1, 1, 1), (1, 1, 1), (-1, 1, 1)), boot(), threshold=0.0)
    assert (values(result)["gsm8k F1"], values(result)["math F1"]) == (1.0, 0.0)
    assert result.numbers["math F1"].n == 2
    assert result.score.value == 0.5


def test_processbench_is_the_step_audit_of_each_subset():
    """The two places of this package that score first errors give the same numbers on random step rewards."""
    rng = np.random.default_rng(3)
    labels = rng.integers(-1, 4, 120)
    rewards = [rng.normal(0, 1, 5) - 2.0 * (np.arange(5) == label) for label in labels]
    items = [process_item(int(label), "gsm8k" if n < 60 else "math", 5, f"p{n}") for n, label in enumerate(labels)]
    found = values(processbench.score(items, rewards, boot()))
    threshold = choose_threshold(rewards[:60], labels[:60]).value
    for name, part in (("gsm8k", slice(0, 60)), ("math", slice(60, 120))):
        predicted = predicted_first_error(rewards[part], threshold)
        expected = first_error_f1(predicted, labels[part], range(60), rng=np.random.default_rng(0), n_resamples=100)
        assert found[f"{name} F1"] == pytest.approx(expected.f1.value)
        assert found[f"{name} with an error"] == pytest.approx(expected.error_accuracy.value)


def test_without_both_kinds_there_is_no_threshold_to_choose():
    with pytest.raises(ConfigError, match="only solutions of one kind") as caught:
        processbench.score([process_item(1), process_item(0)], arrays((1, 0, 1), (0, 1, 1)), boot())
    assert "--threshold" in (caught.value.hint or "")


def test_processbench_chooses_on_gsm8k_and_says_so():
    items = [process_item(1), process_item(-1), process_item(1, "math"), process_item(-1, "math")]
    rewards = arrays((5, 3, 5), (5, 5, 5), (2, 1, 2), (2, 2, 2))
    result = processbench.score(items, rewards, boot())
    assert values(result)["gsm8k F1"] == 1.0
    assert values(result)["math F1"] == 0.0, "every math step is below a threshold between 3 and 5"
    assert "chosen on gsm8k" in result.notes[0]


def test_processbench_rows_and_cut_solutions():
    row = {"id": "omnimath-12", "problem": "2+2?", "steps": ["one", "two"], "label": 1}
    (item,) = processbench.rows_to_items(located([row]))
    assert (item.subset, item.responses, item.meta["label"]) == ("omnimath", ("one", "one\n\ntwo"), 1)
    ours = {"id": "x", "problem": "2+2?", "steps": ["one", "two"], "first_error": -1, "meta": {"subset": "math"}}
    assert processbench.rows_to_items(located([ours]))[0].subset == "math"
    for broken, message in (
        (row | {"label": 2}, r"the first error is 2; allowed: -1 \(none\) to 1"),
        (row | {"id": "gre-3"}, "is 'gre'; allowed: 'gsm8k'"),
    ):
        with pytest.raises(DataError, match=message):
            processbench.rows_to_items(located([broken]))


class StepScorer:
    """Gives -1 to steps that say 'wrong'; `cut` is where it splits."""

    name = "steps"
    calls = 0

    def __init__(self, cut="\n\n"):
        self.cut = cut

    def score(self, exchanges):
        self.calls += len(exchanges)
        steps = tuple(np.array([-1.0 if "wrong" in step else 1.0 for step in e.response.split(self.cut)]) for e in exchanges)
        return Scores(reward=np.array([step.min() for step in steps]), steps=steps)


def test_a_scorer_with_step_rewards_is_asked_once_per_solution_and_one_without_about_every_cut():
    rows = located([{"id": "math-1", "problem": "q", "steps": ["a", "wrong b", "c"], "label": 1},
                    {"id": "math-2", "problem": "r", "steps": ["a", "c"], "label": -1}])  # fmt: skip
    steps = StepScorer()
    outcome = run(steps, benchmark_of("processbench"), rows, threshold=0.0, n_resamples=100)
    assert outcome.result.score.value == 1.0
    assert steps.calls == 3, "one to see that it gives steps, then two solutions"
    whole = FakeScorer(lambda e: -1.0 if "wrong" in e.response else 1.0)
    assert run(whole, benchmark_of("processbench"), rows, threshold=0.0, n_resamples=100).result.score.value == 1.0
    with pytest.raises(ModelError, match="3 steps, and scorer 'steps' gave step rewards of shape"):
        run(StepScorer(cut="\t"), benchmark_of("processbench"), rows)


# ---- PPE ----


def test_roc_area_by_hand():
    """Rights 3, 1; wrongs 2, 1: of the four pairs 3 > 2, 3 > 1 win, 1 < 2 loses, 1 = 1 is half: 2.5 / 4."""
    assert ppe.roc_area(np.array([3.0, 2, 1, 1]), np.array([1.0, 0, 1, 0])) == 2.5 / 4
    assert np.isnan(ppe.roc_area(np.array([1.0, 2]), np.array([1.0, 1])))


def test_ppe_by_hand():
    """MATH, one prompt of 4 answers, right: the 1st and 3rd, rewards 4, 3, 2, 1. Published pairs (0, 1) won and (3, 2) i.e. 2 against 3,
    won, (1, 2): 2 against 1, lost: accuracy 2/3. All 4 right/wrong pairs: 0 beats 1 and 3, 2 beats 3: ROC area 3/4.
    Curve at 1, 2, 4: mean 1/2; best of 2 (pairs 01 02 03 12 13 23 pick 0 0 0 1 1 2) 4/6; 1. Ideal: 1/2, 5/6, 1.
    Distance: (0 + (4/6 - 5/6)^2 + 0) / 3 = 1/108.
    Human: A won and scores higher; B won and ties: 1/2; a person's tie is left out."""
    row = {"prompt": "p", "scores": [True, False, True, False], "sampled_conflict_pairs": [[0, 1], [3, 2], [1, 2]],
           "benchmark": "PPE-MATH-Best-of-K"} | {f"response_{k}": f"r{k}" for k in (1, 2, 3, 4)}  # fmt: skip
    human = {"prompt": "h", "response_1": "x", "response_2": "y", "winner": "model_a"}
    rows = located([row, human, human | {"winner": "model_b"}, human | {"winner": "tie (bothbad)"}])
    items = ppe.rows_to_items(rows)
    result = ppe.score(items, arrays((4, 3, 2, 1), (2, 1), (1, 1), (0, 1)), boot())
    found = values(result)
    assert found["accuracy"] == result.score.value == pytest.approx(2 / 3)
    assert found["ROC area"] == 0.75
    assert [found[f"MATH best of {k}"] for k in (1, 2, 4)] == pytest.approx([1 / 2, 4 / 6, 1])
    assert (found["maximum"], found["end"]) == (1.0, 1.0)
    assert found["distance"] == pytest.approx(1 / 108)
    assert found["human accuracy"] == 0.5
    assert "1 pairs that the person called a tie" in result.notes[0]


def test_ppe_rows():
    row = {"prompt": "p", "scores": [1, 0], "response_1": "a", "response_2": "b"}
    (item,) = ppe.rows_to_items([("data/PPE-MBPP-Plus-Best-of-K.parquet:1", row)])
    assert (item.subset, item.meta["pairs"]) == ("MBPP-Plus", ((0, 1),))
    for broken, message in (
        (row, "neither `benchmark` nor the file's name"),
        (row | {"benchmark": "math", "scores": [1, 0.5]}, "each of scores is 0.5"),
        (row | {"benchmark": "math", "response_3": "c"}, "2 scores do not fit"),
        (row | {"benchmark": "math", "sampled_conflict_pairs": [[0, 2]]}, "not a pair of a right and a wrong"),
        ({"prompt": "p", "response_1": "a", "response_2": "b", "winner": "me"}, "winner is 'me'; allowed: 'model_a'"),
    ):
        with pytest.raises(DataError, match=message):
            ppe.rows_to_items(located([broken]))
