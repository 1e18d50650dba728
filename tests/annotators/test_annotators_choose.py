"""The automatic choice: probabilities that can be believed, weights from left-out votes, and flags that hit the right people."""

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from preferent.annotators import calibrate
from preferent.annotators.choose import choose
from preferent.annotators.dawid_skene import dawid_skene
from preferent.annotators.em import cells_of, e_step, shares
from preferent.annotators.majority import majority
from preferent.annotators.panel import fit_panel
from preferent.annotators.reliability import Limits, flags, informedness, missing_evidence
from preferent.annotators.table import VoteTable
from preferent.annotators.table_columns import Policies
from preferent.core.errors import ConfigError

SHARED = Path(os.environ.get("PREFERENT_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def log_loss(p, truth):
    return -np.log(np.clip(p[np.arange(len(truth)), truth], 1e-6, 1)).mean()


def hard_crowd(seed=0, n_items=1500, votes=7, misled=0.25):
    """(table, truth): forty annotators of accuracy .55 to .95; some items are hard for all, on some all see any label but together."""
    generator = rng(seed)
    skill = generator.uniform(0.55, 0.95, 40)
    truth = generator.integers(0, 2, n_items)
    seems = np.where(generator.random(n_items) < misled, generator.integers(0, 2, n_items), truth)
    blurred = np.where(generator.random(n_items) < 0.3, 0.3, 1.0)
    who = np.argsort(generator.random((n_items, 40)), axis=1)[:, :votes]
    right = generator.random((n_items, votes)) < 0.5 + (skill[who] - 0.5) * blurred[:, None]
    label = np.where(right, seems[:, None], 1 - seems[:, None])
    return VoteTable.from_arrays(np.repeat(np.arange(n_items), votes), who.ravel(), label.ravel()), truth


def test_calibrated_where_items_mislead_everybody():
    table, truth = hard_crowd()
    choice = choose(table, rng())
    raw = dawid_skene(table)
    assert choice.method == "panel"
    assert log_loss(choice.result.p_IL, truth) < log_loss(raw.p_IL, truth) - 0.1
    assert (choice.result.best_I() == truth).mean() >= (raw.best_I() == truth).mean() - 0.005
    assert choice.rho > calibrate.UNSEEN, "left-out votes show that errors are shared"
    assert "left-out votes" in choice.reason
    assert sum(choice.weights.values()) == pytest.approx(1.0)
    for name, estimate in choice.left_out.items():
        assert estimate.low < estimate.value < estimate.high < 0, name


def test_better_than_the_share_where_votes_can_show_it():
    """Hard items are seen in the votes; items on which everybody is misled are not, and there the share of the vote is the safer one."""
    table, truth = hard_crowd(misled=0.0)
    p = choose(table, rng()).result.p_IL
    assert log_loss(p, truth) < log_loss(dawid_skene(table).p_IL, truth) - 0.01
    assert log_loss(p, truth) < log_loss(majority(table, smoothing=1.0).p_IL, truth) - 0.05


def test_left_out_posterior_is_close_to_a_fit_without_the_vote():
    """The shortcut divides the vote's factor out; the long way fits again without it."""
    table, _ = hard_crowd(3, n_items=150)
    cells = cells_of(table)
    rows = rng(1).choice(len(table), 12, replace=False)
    differences = []
    for number, member in enumerate(fit_panel(cells, shares(table))):
        short = calibrate.left_out_posterior(cells, table, member.fit, rows)
        for row, got in zip(rows, short, strict=True):
            keep = np.ones(len(table), dtype=bool)
            keep[row] = False
            less = table.where(keep)
            again = fit_panel(cells_of(less), shares(less))[number].fit.p_IK[table.item_V[row]]
            differences.append(np.abs(got - again).max())
    assert max(differences) < 0.1
    assert np.mean(differences) < 0.03


def test_divided_out_exactly():
    """With confusions held, the posterior without a vote is that of the other votes."""
    table, _ = hard_crowd(4, n_items=50)
    cells = cells_of(table)
    member = fit_panel(cells, shares(table))[0]
    keep = np.ones(len(table), dtype=bool)
    keep[17] = False
    others = e_step(cells_of(table.where(keep)), member.fit.parameters)[0][table.item_V[17]]
    assert calibrate.left_out_posterior(cells, table, member.fit, np.array([17]))[0] == pytest.approx(others)


def test_shared_votes_are_left_out_together():
    """An annotator's vote that is split in two rows is one vote to be left out."""
    table, _ = hard_crowd(5, n_items=60)
    columns = table.columns()
    twice = {name: np.concatenate([values, values]) for name, values in columns.items()}
    split = VoteTable.from_columns(twice, labels=table.labels, policies=Policies(repeats="share"))
    one, two = choose(table, rng()), choose(split, rng())
    assert two.result.p_IL == pytest.approx(one.result.p_IL)
    assert two.left_out["panel"].value == pytest.approx(one.left_out["panel"].value)


def test_temper_by_hand():
    # Four votes that share .2 of their errors are worth 4 / (1 + 3 * .2) = 2.5: power .625. Odds 9 become 9^.625, half a base of 1.
    p = calibrate.temper(np.array([[0.9, 0.1]]), np.array([4]), 0.2, np.array([0.5, 0.5]))
    assert p[0, 0] / p[0, 1] == pytest.approx(9**0.625)
    assert calibrate.temper(np.array([[0.9, 0.1]]), np.array([4]), 0.0, np.array([0.2, 0.8])) == pytest.approx(np.array([[0.9, 0.1]]))
    assert calibrate.design_power(np.array([1, 4]), 1.0).tolist() == [1.0, 0.25]


def test_stacking_prefers_who_predicts():
    chance = np.log(np.stack([np.full(500, 0.9), np.full(500, 0.1)]))
    weights = calibrate.stack_weights(chance)
    assert weights == pytest.approx([0.75, 0.25], abs=0.06), "half is equal shares, the other half goes to the better one"
    assert calibrate.stack_weights(chance[::-1]) == pytest.approx(weights[::-1])


def test_one_vote_everywhere_is_a_smoothed_share():
    table = VoteTable.from_arrays(range(40), [i % 4 for i in range(40)], ["a"] * 30 + ["b"] * 10)
    choice = choose(table, rng())
    assert choice.method == "majority"
    assert "no item has two votes" in choice.reason
    # One vote for a and one more vote spread .75 to .25.
    assert choice.result.p_IL[0].tolist() == [0.875, 0.125]


def test_votes_of_no_use_leave_the_share():
    """Everybody guesses: no model predicts a vote better than another, and nobody gets a sure label."""
    generator = rng(6)
    table = VoteTable.from_arrays(np.repeat(np.arange(300), 4), np.tile(np.arange(4), 300), generator.integers(0, 2, 1200))
    p = choose(table, generator).result.p_IL
    assert log_loss(p, generator.integers(0, 2, 300)) < 0.9


# ---- real crowds with gold: (accuracy, log loss) is the best of crowd-kit 1.4.2's seven methods, each figure by itself, as measured by
# bench/crowd.py. The constants in calibrate.py were picked on these very files, so this guards against a change for the worse; it is no
# evidence of how `auto` does on a crowd that nobody has seen. ----

GOLD = {
    "gal_sentiment_bm": (0.7220, 1.5828),
    "dices350": (0.6543, 0.6781),
    "gal_adultcontent2": (0.7688, 1.2745),
    "ukpconvarg1_crowd": (0.9204, 0.2374),
}


@pytest.mark.parametrize("name", GOLD)
def test_as_good_as_the_best_peer_on_real_crowds(name):
    path = SHARED / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    columns = {field: [row[field] for row in rows] for field in ("item", "annotator", "label")}
    table = VoteTable.from_columns(columns, policies=Policies(repeats="keep"))
    gold = {row["item"]: table.labels.index(row["gold"]) for row in rows if row.get("gold") is not None}
    result = choose(table, rng()).result
    at = [row for row, item in enumerate(table.items.tolist()) if item in gold]
    truth = np.array([gold[item] for item in table.items[at].tolist()])
    accuracy, loss = GOLD[name]
    assert (result.best_I()[at] == truth).mean() >= accuracy - 5e-5
    assert log_loss(result.p_IL[at], truth) <= loss
    assert (result.best_I()[at] == truth).mean() >= (majority(table).best_I()[at] == truth).mean()


# ---- flags ----


def suspicious(seed=0):
    """(table, kinds): fifteen honest, three adversaries, three guessers, three who click left; ties, seconds, display order."""
    generator = rng(seed)
    kinds = np.array(["honest"] * 15 + ["adversary"] * 3 + ["spammer"] * 3 + ["left"] * 3)
    n, votes = 1500, 6
    truth = generator.integers(0, 2, n)
    who = np.argsort(generator.random((n, len(kinds))), axis=1)[:, :votes].ravel()
    item = np.repeat(np.arange(n), votes)
    first = generator.integers(0, 2, len(item))
    right = generator.random(len(item)) < np.select([kinds[who] == "honest", kinds[who] == "adversary"], [0.85, 0.15], 0.5)
    label = np.where(right, truth[item], 1 - truth[item])
    label = np.where(kinds[who] == "left", np.where(generator.random(len(item)) < 0.95, first, 1 - first), label)
    tied = generator.random(len(item)) < np.where(who == 0, 0.4, 0.05)
    seconds = np.where(who == 1, 0.5, generator.lognormal(3, 0.4, len(item)))
    names = np.array(["a", "b"], dtype=object)
    said = np.where(tied, "tie", names[label])
    options = {"shown_first": names[first].tolist(), "seconds": seconds}
    return VoteTable.from_arrays(item, who, said.tolist(), labels=("a", "b", "tie"), **options), kinds


def test_every_kind_of_flag_hits_whom_it_should():
    table, kinds = suspicious()
    found = flags(table, dawid_skene(table))
    by_kind = {kind: {flag.annotator for flag in found if flag.kind == kind} for kind in ("adversary", "spammer", "left", "right")}
    assert by_kind["adversary"] == set(np.flatnonzero(kinds == "adversary").tolist())
    assert by_kind["left"] == set(np.flatnonzero(kinds == "left").tolist())
    assert by_kind["right"] == set()
    assert by_kind["spammer"] == set(np.flatnonzero((kinds == "spammer") | (kinds == "left")).tolist())
    assert {flag.annotator for flag in found if flag.kind == "tie-happy"} == {0}
    assert {flag.annotator for flag in found if flag.kind == "too fast"} == {1}
    for flag in found:
        assert not flag.evidence.low <= flag.threshold <= flag.evidence.high
        assert str(flag.evidence.n) in flag.says
    assert missing_evidence(table) == ()


def test_few_votes_flag_nobody():
    table, _ = suspicious()
    few = table.where(np.arange(len(table)) < 60)
    assert flags(few, dawid_skene(few)) == []


def test_informedness_by_hand():
    # Youden: .9 + .8 - 1 = .7 for the first; always "0" is 0; the opposite of the truth is -1.
    theta = np.array([[[0.9, 0.1], [0.2, 0.8]], [[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
    mean, spread = informedness(theta * 1e6, np.array([0.5, 0.5]))
    assert mean == pytest.approx([0.7, 0.0, -1.0])
    assert spread.max() < 0.01


def test_what_flags_need():
    table, _ = suspicious()
    with pytest.raises(ConfigError, match="confusions"):
        flags(table, majority(table))
    with pytest.raises(ConfigError, match="ties > 1"):
        Limits(ties=0.5)
    bare = VoteTable.from_arrays([1, 1], [1, 2], ["a", "b"])
    assert len(missing_evidence(bare)) == 3


def test_a_tie_that_nobody_gave_flags_nobody():
    # Wilson's lower end of 0 of n is 0 up to rounding: that is above "twice nothing" for some n, and flagged everybody.
    table, _ = suspicious()
    decided = table.where(table.label_V < 2)
    assert "tie" in decided.labels
    assert not [flag for flag in flags(decided, dawid_skene(decided)) if flag.kind == "tie-happy"]
    assert "tie-happy: there are no ties" in missing_evidence(decided)


def test_flags_of_shares_are_sentences():
    table, _ = suspicious()
    said = {flag.kind: flag.says for flag in flags(table, dawid_skene(table)) if flag.annotator in (0, 1)}
    number = r"[01]\.\d+ \[0\.\d+, [01]\.\d+\] of their \d+ votes"
    assert re.fullmatch(number + r" are ties; of everybody's votes \d+%", said["tie-happy"])
    assert re.fullmatch(number + r" came within \S+ s", said["too fast"])
