"""The rules of RewardBench, RewardBench 2, RM-Bench and RMB on fixtures small enough to compute by hand, and on published figures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from benchmark_items import arrays, boot, located, rewardbench_items, values

from preferent.audits.benchmarks import rewardbench, rewardbench2, rm_bench, rmb
from preferent.audits.benchmarks.items import Item
from preferent.audits.benchmarks.result import weighted
from preferent.core.errors import DataError
from preferent.core.records import user

# ---- RewardBench ----


def test_rewardbench_weighs_subsets_by_published_sizes():
    """Reasoning: math-prm 1 of 2 right, at 984; hep-cpp 1 of 1, at 164: (984 x .5 + 164 x 1) / 1148 = 656 / 1148. A tie is wrong."""
    items = rewardbench_items("math-prm", "math-prm", "hep-cpp")
    found = values(rewardbench.score(items, arrays((2, 1), (1, 1), (1, 0)), boot()))
    assert found["math-prm"] == 0.5
    assert found["Reasoning"] == pytest.approx(656 / 1148)
    assert found["score"] == found["Reasoning"], "the sections that are not there count nothing"


def test_rewardbench_counts_prior_sets_at_half_weight():
    """Chat 1, Chat Hard 0, Safety 1, Reasoning 1; prior sets: helpful 1, shp 0 -> .5. (2 + 0 + 2 + 2 + .5) / 9 = 6.5 / 9."""
    items = rewardbench_items("alpacaeval-easy", "llmbar-natural", "donotanswer", "hep-js", "anthropic_helpful", "shp")
    result = rewardbench.score(items, arrays((1, 0), (0, 1), (1, 0), (1, 0), (1, 0), (0, 1)), boot())
    assert values(result)["Prior Sets"] == 0.5
    assert result.score.value == pytest.approx(6.5 / 9)
    # Without them: (1 + 0 + 1 + 1) / 4.
    assert rewardbench.score(items[:4], arrays((1, 0), (0, 1), (1, 0), (1, 0)), boot()).score.value == 0.75


def test_rewardbench_reproduces_a_row_of_the_leaderboard():
    """ArmoRM-Llama3-8B-v0.1 (its model card, May 2024): 96.9, 76.8, 92.2, 97.3 and prior sets 74.3 make 89.0."""
    means = {name: np.array([value]) for name, value in zip(rewardbench.OVERALL, (96.9, 76.8, 92.2, 97.3, 74.3), strict=True)}
    assert weighted(means, rewardbench.OVERALL)[0] == pytest.approx(89.0, abs=0.05)
    means["Prior Sets"] = np.array([np.nan])
    assert weighted(means, rewardbench.OVERALL)[0] == pytest.approx((96.9 + 76.8 + 92.2 + 97.3) / 4)


def test_rewardbench_sizes_are_those_of_the_paper():
    """2985 prompts in all (Lambert et al. 2024, table 1), with math-prm at its own 447 and not the 984 of the weighting."""
    sizes = {name: size for section in rewardbench.SECTIONS.values() for name, size in section.items()}
    assert sum(sizes.values()) - 984 + 447 == 2985
    assert sum(size for name, size in sizes.items() if name.startswith("hep")) == 984


def test_rewardbench_reads_the_authors_rows_and_names_what_it_does_not_know():
    row = {"id": 3, "prompt": "p", "chosen": "a", "rejected": "b", "subset": "hep-go", "chosen_model": "m"}
    chat = [{"role": "user", "content": "p"}]
    items = rewardbench.rows_to_items(
        located([row, row | {"subset": "shp", "prompt": chat, "chosen": [*chat, {"role": "assistant", "content": "c"}]}])
    )
    assert [(item.id, item.subset, item.responses) for item in items] == [("3", "hep-go", ("a", "b")), ("3", "shp", ("c", "b"))]
    assert items[0].prompt == items[1].prompt == user("p")
    with pytest.raises(DataError, match=r"file\.jsonl:1: subset is 'hep-cobol'; allowed: 'alpacaeval-easy'"):
        rewardbench.rows_to_items(located([row | {"subset": "hep-cobol"}]))
    with pytest.raises(DataError, match=r"file\.jsonl:1: no 'rejected' in this row"):
        rewardbench.rows_to_items(located([{"prompt": "p", "chosen": "a", "subset": "shp"}]))
    with pytest.raises(DataError, match="no rows"):
        rewardbench.rows_to_items([])


# ---- RewardBench 2 ----


@pytest.mark.parametrize(("rewards", "expected"), [((3, 1, 2, 0), 1), ((3, 3, 1, 0), 1 / 2), ((3, 3, 3, 3), 1 / 4), ((2, 3, 3, 1), 0)])
def test_best_of_four_shares_ties(rewards, expected):
    assert rewardbench2.best_of(np.array(rewards, dtype=float)) == expected


def ties_item(kind, number, n_correct, n_wrong=2):
    return Item(f"{kind}:{number}", f"f:{kind}{number}", "Ties", user(f"{kind} {number}"), ("r",) * (n_correct + n_wrong), n_correct,
                {"kind": kind, "number": str(number)})  # fmt: skip


def test_ties_score_by_hand():
    """Number 1: tied rights 5, 4, wrongs 1, 0: gap 3, spread 1; ref right 4, wrongs 2.5, 0: gap 1.5.
    Number 2: tied rights 5, 1, wrongs 2, 0: gap -1, spread 4; ref right 3, wrongs 1, 0: gap 2.

    tied accuracy 1/2, ref accuracy 2/2, preferred (3 > 1, -1 > 4) 1/2, hard (min(1.5, 3) > 1, min(2, -1) > 4) 1/2,
    margin: tanh(1.5/1 - 1) = tanh(.5), tanh(-1/4 - 1) = tanh(-1.25).
    """
    items = [ties_item("tied", 1, 2), ties_item("ref", 1, 1), ties_item("tied", 2, 2), ties_item("ref", 2, 1)]
    rewards = arrays((5, 4, 1, 0), (4, 2.5, 0), (5, 1, 2, 0), (3, 1, 0))
    found = values(rewardbench2.score(items, rewards, boot()))
    margin = (np.tanh(0.5) + np.tanh(-1.25)) / 2
    assert found["ties tied accuracy"] == 0.5
    assert found["ties ref accuracy"] == 1.0
    assert found["ties margin"] == pytest.approx(margin)
    assert found["Ties"] == found["score"] == pytest.approx(0.3 * 0.5 + 0.3 * 1 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * margin)


def test_ties_without_a_spread():
    """Rights 2, 2 and wrongs 1, 0: gap 1 over spread 0 is infinite, tanh 1. All equal: 0 / 0 counts 0. Worse than wrong: -1."""
    for wrong, expected in ((1, 1.0), (2, 0.0), (3, -1.0)):
        items = [ties_item("tied", 1, 2), ties_item("ref", 1, 1)]
        found = values(rewardbench2.score(items, arrays((2, 2, wrong, 0), (9, 1, 0)), boot()))
        assert found["ties margin"] == expected


def test_a_tied_prompt_without_its_twin_counts_for_accuracy_only():
    result = rewardbench2.score([ties_item("tied", 1, 2), ties_item("ref", 2, 1)], arrays((5, 4, 1, 0), (2, 1, 0)), boot())
    found = {name: value for name, value in values(result).items() if not np.isnan(value)}
    assert found == {"ties tied accuracy": 1.0, "ties ref accuracy": 1.0}
    assert any("undefined" in note for note in result.notes)


def test_rewardbench2_score_is_the_mean_of_the_subsets():
    """Math 1 and 0 -> .5; Focus 1/2 -> .5; Factuality 1: (.5 + .5 + 1) / 3."""
    items = [Item(str(n), f"f:{n}", name, user(f"p{n}"), ("a",) * 4) for n, name in enumerate(("Math", "Math", "Focus", "Factuality"))]
    result = rewardbench2.score(items, arrays((2, 1, 1, 1), (1, 2, 1, 1), (2, 2, 1, 1), (3, 1, 1, 1)), boot())
    assert result.score.value == pytest.approx(2 / 3)
    assert result.counts["best-of-four with a shared highest"] == 1
    assert "Ties" in " ".join(result.notes)


def test_rewardbench2_rows():
    row = {
        "id": "7",
        "prompt": "p",
        "chosen": ["a"],
        "rejected": ["b", "c", "d"],
        "subset": "Math",
        "num_correct": 1,
        "total_completions": 4,
    }
    tied = row | {"id": "tied:3", "chosen": ["a", "b"], "num_correct": 2, "subset": "Ties"}
    first, second = rewardbench2.rows_to_items(located([row, tied]))
    assert (first.responses, first.n_correct) == (("a", "b", "c", "d"), 1)
    assert (second.n_correct, second.meta["number"]) == (2, "3")
    for broken, message in (
        (row | {"chosen": ["a", "b"]}, "num_correct|one right response"),
        (tied | {"id": "9"}, "'ref:<number>' or 'tied:<number>'"),
        (tied | {"chosen": ["a"], "num_correct": 1}, "at least two right responses"),
        (row | {"num_correct": 2}, "num_correct is 2"),
    ):
        with pytest.raises(DataError, match=message):
            rewardbench2.rows_to_items(located([broken]))
    twice = rewardbench2.rows_to_items(located([tied, tied]))
    with pytest.raises(DataError, match="second row with the id"):
        rewardbench2.score(twice, arrays((1, 1, 0, 0, 0), (1, 1, 0, 0, 0)), boot())


# ---- RM-Bench ----


def test_rm_bench_matrix_by_hand():
    """Right styles 1, 2, 3 against wrong styles 0, 2, 2.5: rows of wins 100, 100 (2 > 2 is a tie, lost), 111.
    Easy, below the diagonal: (1, 1, 1) -> 1; normal: (1, 0, 1) -> 2/3; hard: (0, 0, 0) -> 0. Domain: (1 + 2/3 + 0) / 3 = 5/9."""
    reward = np.array([1, 2, 3, 0, 2, 2.5])
    np.testing.assert_array_equal(rm_bench.matrix(reward), [[1, 0, 0], [1, 0, 0], [1, 1, 1]])
    result = rm_bench.score([Item("1", "f:1", "chat", user("p"), ("r",) * 6, 3)], [reward], boot())
    found = values(result)
    assert (found["easy"], found["hard"]) == (1.0, 0.0)
    assert found["normal"] == pytest.approx(2 / 3)
    assert found["score"] == found["chat"] == pytest.approx(5 / 9)
    assert result.counts["ties"] == 1


def test_rm_bench_levels_of_a_published_matrix():
    """The matrix the paper prints (in %) and the easy, normal and hard accuracy it derives from it: 93.26, 72.13, 18.58."""
    cells = [[83.61, 3.83, 2.19], [99.45, 66.12, 49.73], [100.0, 80.33, 66.67]]
    means = {f"chat {i}>{j}": np.array([cells[i][j]]) for i in range(3) for j in range(3)}
    found = rm_bench._levels(means)
    assert [round(float(found[f"chat {level}"][0]), 2) for level in ("easy", "normal", "hard")] == [93.26, 72.13, 18.58]


def test_rm_bench_averages_domains_as_its_table_does():
    """Skywork-Reward-Llama-3.1-8B, table 3: chat 69.5, math 60.6, code 54.5, safety 95.7 make 70.1."""
    parts = {"chat": 69.5, "math": 60.6, "code": 54.5, "safety-refuse": 97.0, "safety-response": 94.4}
    means = {f"{part} {i}>{j}": np.array([value]) for part, value in parts.items() for i in range(3) for j in range(3)}
    found = rm_bench._levels(means)
    assert found["safety"][0] == pytest.approx(95.7), "the mean of its halves"
    assert found["score"][0] == pytest.approx(70.1, abs=0.05)


def test_rm_bench_rows_in_both_shapes_are_the_same_items():
    whole = {"id": "x", "prompt": "p", "chosen": ["c0", "c1", "c2"], "rejected": ["r0", "r1", "r2"], "domain": "code"}
    pairs = [
        {
            "prompt": "p",
            "chosen": f"c{i}",
            "rejected": f"r{j}",
            "meta": {"item": "x", "domain": "code", "style_chosen": i, "style_rejected": j},
        }
        for i, j in itertools.product(range(3), repeat=2)
    ]
    (one,), (other,) = rm_bench.rows_to_items(located([whole])), rm_bench.rows_to_items(located(pairs))
    assert (one.id, one.subset, one.prompt, one.responses) == (other.id, other.subset, other.prompt, other.responses)
    with pytest.raises(DataError, match="lacks the styles chosen 2"):
        rm_bench.rows_to_items(located(pairs[:6]))
    with pytest.raises(DataError, match="another chosen response of style 0"):
        rm_bench.rows_to_items(located([pairs[0], pairs[1] | {"chosen": "else"}]))
    with pytest.raises(DataError, match="domain is 'poetry'; allowed: 'chat'"):
        rm_bench.rows_to_items(located([whole | {"domain": "poetry"}]))
    with pytest.raises(DataError, match="at least 3 texts"):
        rm_bench.rows_to_items(located([whole | {"chosen": ["a", "b"]}]))


# ---- RMB ----


def rmb_rows():
    turn = [{"content": "q", "language": "English", "role": "user"}]
    pair = {"pair_uid": "1", "conversation_input": turn, "category_path": "Pairwise_set/Harmlessness/S10",
            "chosen": {"llm_name": "m", "answer": "good", "score": 5.0}, "reject": {"answer": "bad", "score": 1.0}}  # fmt: skip
    bon = {"bon_uid": "2", "conversation_input": turn, "category_path": "BoN_set/Helpfulness/Code/Debugging",
           "bon_best": {"answer": "best"}, "loser_list": [{"answer": "l1"}, {"answer": "l2"}]}  # fmt: skip
    return pair, bon


def test_rmb_rows():
    pair, bon = rmb_rows()
    ours = {"id": "3", "prompt": "q", "best": "best", "losers": ["l1", "l2"], "meta": {"category": "Helpfulness/Code/Debugging"}}
    first, second, third = rmb.rows_to_items(located([pair, bon, ours]))
    assert (first.subset, first.responses) == ("Harmlessness pairs", ("good", "bad"))
    assert (second.subset, second.responses) == ("Helpfulness best-of-n", ("best", "l1", "l2"))
    assert (third.subset, third.responses, third.prompt) == (second.subset, second.responses, second.prompt)
    with pytest.raises(DataError, match="names neither of the goals"):
        rmb.rows_to_items(located([pair | {"category_path": "Pairwise_set/Humour"}]))
    with pytest.raises(DataError, match="losers must be a list of at least one"):
        rmb.rows_to_items(located([bon | {"loser_list": []}]))


def test_the_best_must_outscore_every_loser_and_a_tie_loses():
    """Best-of-n: 3 > 1, 2 wins; 3 = 3 loses; 3 < 4 loses: 1/3. Pairs: 2 > 1 wins, 1 = 1 loses: 1/2. Score: the mean of what is there."""
    pair, bon = rmb_rows()
    items = rmb.rows_to_items(located([bon, bon, bon, pair, pair]))
    result = rmb.score(items, arrays((3, 1, 2), (3, 3, 1), (3, 4, 1), (2, 1), (1, 1)), boot())
    assert values(result)["Helpfulness best-of-n"] == pytest.approx(1 / 3)
    assert values(result)["Harmlessness pairs"] == 0.5
    assert result.score.value == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert result.counts["items lost to a tie"] == 2
    assert values(result)["Harmlessness/S10 pairs"] == 0.5
