"""Intervals of benchmarks, the runner, and the samples of public benchmarks kept beside the repository."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from benchmark_items import arrays, boot, located, rewardbench_items

from preferent.audits.benchmarks import rewardbench
from preferent.audits.benchmarks.items import prompt
from preferent.audits.benchmarks.registry import BENCHMARKS, benchmark_of, titles
from preferent.audits.benchmarks.result import estimate
from preferent.audits.benchmarks.run import item_rewards, run
from preferent.audits.contamination import contamination
from preferent.core.errors import ConfigError, DataError, ModelError
from preferent.core.ngrams import sketch_prompts
from preferent.core.records import Scores, user
from preferent.core.scorer import FakeScorer, length_scorer

# ---- intervals ----


def test_an_interval_of_a_function_of_means_has_the_width_it_must():
    """score = (mean of x + mean of y) / 2, 400 prompts each, p = .5: standard error sqrt(.25/400 x 2) / 2 = .0177; x 3.92 = .069."""
    rng = np.random.default_rng(5)
    hits = rng.integers(0, 2, 800).astype(float)
    columns = {"x": np.where(np.arange(800) < 400, hits, np.nan), "y": np.where(np.arange(800) >= 400, hits, np.nan)}
    found = estimate(columns, list(range(800)), lambda m: {"score": (m["x"] + m["y"]) / 2}, boot(2000))
    assert found["score"].value == pytest.approx(hits.mean())
    assert found["score"].high - found["score"].low == pytest.approx(0.069, rel=0.1)
    assert list(found) == ["score", "x", "y"]


def test_a_number_counts_what_it_rests_on():
    """x has 3 rows, y has 2 of which one is also in x, z has 1: x + y rests on 4, max(y, z) on 3."""
    nan = np.nan
    columns = {"x": np.array([1, 0, 1, nan, nan]), "y": np.array([nan, nan, 1, 0, nan]), "z": np.array([nan, nan, nan, nan, 1.0])}
    found = estimate(columns, list("abcde"), lambda m: {"sum": m["x"] + m["y"], "max": np.maximum(m["y"], m["z"])}, boot())
    assert {name: value.n for name, value in found.items()} == {"sum": 4, "max": 3, "x": 3, "y": 2, "z": 1}


def test_prompts_are_resampled_whole():
    """Ten copies of each of 40 prompts are 40 prompts: the interval is that of one copy each, not narrower by sqrt(10)."""
    hits = np.random.default_rng(2).integers(0, 2, 40).astype(float)
    once = estimate({"x": hits}, list(range(40)), lambda m: {}, boot(2000))["x"]
    tenfold = estimate({"x": np.tile(hits, 10)}, list(range(40)) * 10, lambda m: {}, boot(2000))["x"]
    assert tenfold.high - tenfold.low == pytest.approx(once.high - once.low, rel=0.1)


def test_certainty_is_never_claimed():
    found = rewardbench.score(rewardbench_items("hep-js", "hep-go", "donotanswer"), arrays((1, 0), (1, 0), (1, 0)), boot())
    assert "no interval" in found.score.method
    one = rewardbench.score(rewardbench_items("hep-js"), arrays((1, 0)), boot())
    assert "one prompt only" in one.numbers["hep-js"].method


# ---- the runner ----


def test_run_scores_each_distinct_exchange_once_and_takes_out_what_was_trained_on():
    rows = located([{"prompt": f"question number {n}", "chosen": "longer answer" if n % 2 else "s", "rejected": "short", "subset": "hep-js"}
                    for n in range(10)])  # fmt: skip
    asked = []
    scorer = FakeScorer(lambda e: asked.append(e) or float(len(e.response)))
    # Odd questions are won. Of the trained ones (0, 1, 2) one is odd: 5/10 with them, 4/7 without.
    sketch = sketch_prompts([user(f"Question NUMBER {n}?") for n in range(3)])
    outcome = run(scorer, benchmark_of("rewardbench"), rows + rows, sketch=sketch, n_resamples=200)
    assert len(asked) == 20
    assert outcome.result.score.value == 0.5
    assert outcome.contamination is not None
    assert outcome.contamination.n_whole == 3
    assert outcome.clean is not None
    assert outcome.clean.score.value == pytest.approx(4 / 7)
    assert "without the contaminated items: score 0.571" in outcome.render()
    assert outcome.to_dict()["without_contaminated"]["score"]["value"] == pytest.approx(4 / 7)


def test_rewards_that_are_no_numbers_are_refused():
    items = rewardbench_items("hep-js")
    with pytest.raises(DataError, match="no finite reward"):
        item_rewards(FakeScorer(lambda e: float("nan")), items)
    short = FakeScorer(lambda e: 1.0)
    short.score = lambda exchanges: Scores(reward=np.ones(1))  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="answered 2 exchanges with rewards of shape"):
        item_rewards(short, items)


def test_names():
    assert set(BENCHMARKS) == {"rewardbench", "rewardbench2", "rm-bench", "rmb", "judgebench", "llmbar", "processbench", "ppe"}
    assert all(title and wants for _, title, wants in titles())
    with pytest.raises(ConfigError, match="no benchmark 'mmlu'; allowed: rewardbench"):
        benchmark_of("mmlu")


SAMPLES = Path(os.environ.get("PREFERENT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
# name -> (file, items)
SAMPLE_FILES = {
    "judgebench": ("judgebench", 20),
    "llmbar": ("llmbar", 20),
    "rm-bench": ("rm_bench", 10),
    "rmb": ("rmb_bon", 20),
    "processbench": ("processbench", 60),
}


def sample(file):
    path = SAMPLES / f"{file}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here: the samples of public benchmarks are kept beside the repository")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [(f"{path.name}:{n}", json.loads(line)) for n, line in enumerate(lines, 1)]


@pytest.mark.parametrize("name", SAMPLE_FILES)
def test_real_rows_are_read_and_scored(name):
    file, n_items = SAMPLE_FILES[name]
    rows = sample(file)
    options = {"threshold": 0.0} if name == "processbench" else {}
    outcome = run(length_scorer(), benchmark_of(name), rows, n_resamples=200, **options)
    assert next(iter(outcome.result.counts.values())) == n_items
    # The sample of llmbar is a case study, which counts nowhere; that of processbench has no solution without an error, so no F1.
    if name in ("llmbar", "processbench"):
        assert outcome.result.score.method == "undefined: a part it is made of is not in this file"
    else:
        assert 0 <= outcome.result.score.value <= 1
    assert outcome.result.benchmark in outcome.render()


def test_the_longer_response_on_real_rows_counted_by_hand():
    """The same numbers from the raw rows with nothing of this package: the rules in one line each."""
    rows = [row for _, row in sample("judgebench")]
    wins = [
        len(r["chosen"]) > len(r["rejected"]) or (len(r["chosen"]) == len(r["rejected"]) and r["meta"]["chosen_slot"] == 2) for r in rows
    ]
    found = run(length_scorer(), benchmark_of("judgebench"), sample("judgebench"), n_resamples=200).result
    assert found.score.value == pytest.approx(np.mean(wins))
    rows = [row for _, row in sample("rm_bench")]
    found = run(length_scorer(), benchmark_of("rm-bench"), sample("rm_bench"), n_resamples=200).result
    for level in ("easy", "normal", "hard"):
        own = [len(r["chosen"]) > len(r["rejected"]) for r in rows if r["meta"]["difficulty"] == level]
        assert found.numbers[f"chat {level}"].value == pytest.approx(np.mean(own))
    rows = [row for _, row in sample("rmb_bon")]
    found = run(length_scorer(), benchmark_of("rmb"), sample("rmb_bon"), n_resamples=200).result
    assert found.score.value == pytest.approx(np.mean([all(len(r["best"]) > len(x) for x in r["losers"]) for r in rows]))


def test_contamination_that_is_known_of_real_data():
    """The sample of ProcessBench holds GSM8K test problems, and that of RM-Bench's chat part AlpacaEval prompts, by their authors' own
    account: all of them are found, and none of UltraFeedback's."""
    for trained, name, file, share in (
        ("gsm8k_model_solutions", "processbench", "processbench", 1.0),
        ("tulu_bon16", "rm-bench", "rm_bench", 1.0),
        ("ultrafeedback_1200", "processbench", "processbench", 0.0),
        ("ultrafeedback_1200", "judgebench", "judgebench", 0.0),
    ):
        sketch = sketch_prompts(prompt(row["prompt"], where) for where, row in sample(trained))
        found = contamination([item.prompt for item in benchmark_of(name).read(sample(file))], sketch)
        assert found.share.value == share, (trained, name)


@pytest.mark.parametrize("name", ["judgebench", "rm-bench", "rmb"])
def test_only_the_order_of_rewards_counts_and_not_the_order_of_rows(name):
    """Real rows and random rewards: a monotone change of the rewards and a shuffle of the rows leave every number as it is."""
    rows = sample(SAMPLE_FILES[name][0])
    rng = np.random.default_rng(4)
    random = {}
    plain_rewards = FakeScorer(lambda e: random.setdefault(e.response, float(rng.normal())))
    benchmark = benchmark_of(name)
    expected = run(plain_rewards, benchmark, rows, n_resamples=100).result
    stretched = FakeScorer(lambda e: float(np.exp(3 * random[e.response]) - 7))
    shuffled = [rows[n] for n in rng.permutation(len(rows))]
    for scorer, order in ((stretched, rows), (plain_rewards, shuffled)):
        found = run(scorer, benchmark, order, n_resamples=100).result
        assert {key: value.value for key, value in found.numbers.items()} == pytest.approx(
            {key: value.value for key, value in expected.numbers.items()}, nan_ok=True
        )
