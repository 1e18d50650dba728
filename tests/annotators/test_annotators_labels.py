"""Label models against planted truths, brute force and derivatives, and the contract over every one of them."""

import itertools
import re

import numpy as np
import pytest

from preferent.annotators.choose import choose
from preferent.annotators.contract import check_aggregator, simulated_crowd
from preferent.annotators.convergence import Convergence, falls, iterate
from preferent.annotators.dawid_skene import dawid_skene
from preferent.annotators.em import Parameters, cells_of, e_step, normalised, shares
from preferent.annotators.glad import GladModel, glad
from preferent.annotators.labels import LabelResult
from preferent.annotators.mace import mace
from preferent.annotators.majority import majority, wawa
from preferent.annotators.table import VoteTable
from preferent.annotators.table_columns import Policies
from preferent.core.errors import ConfigError, DataError, FitError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


METHODS = {
    "majority": majority,
    "wawa": wawa,
    "ml": lambda table: dawid_skene(table, "ml"),
    "map": lambda table: dawid_skene(table, "map"),
    "shrunk": dawid_skene,
    "one-coin": lambda table: dawid_skene(table, "one-coin"),
    "mace": lambda table: mace(table, rng=rng(), restarts=3),
    "glad": glad,
    "auto": lambda table: choose(table, rng()).result,
}


@pytest.mark.parametrize("name", METHODS)
def test_the_contract_holds_for_every_method(name):
    seen = check_aggregator(METHODS[name])
    assert seen["row order"] == 0.0, "rows are put in one order before anything else"


def crowd(generator, theta_AKL, pi_K, n_items, votes):
    """(table, labels of the items): different annotators on each item, who vote by their confusions."""
    n_annotators, n_labels = theta_AKL.shape[:2]
    truth = generator.choice(n_labels, n_items, p=pi_K)
    who = np.argsort(generator.random((n_items, n_annotators)), axis=1)[:, :votes].ravel()
    item = np.repeat(np.arange(n_items), votes)
    label = (generator.random((len(item), 1)) >= np.cumsum(theta_AKL[who, truth[item]], axis=1)[:, :-1]).sum(axis=1)
    # Label codes must be the labels: name all of them.
    names = [str(k) for k in range(n_labels)]
    return VoteTable.from_arrays(item, who, [names[k] for k in label], labels=names), truth


def binary(accuracy_A, left_A=None):
    """Confusions of (A, 2, 2) from accuracies on both labels."""
    a = np.asarray(accuracy_A, dtype=float)
    b = a if left_A is None else np.asarray(left_A, dtype=float)
    return np.stack([np.stack([a, 1 - a], -1), np.stack([1 - b, b], -1)], axis=1)


SKILLS = np.array([0.9] * 6 + [0.7] * 6 + [0.5] * 3 + [0.15] * 3)


@pytest.mark.parametrize("name", ["ml", "map", "shrunk", "one-coin"])
def test_planted_confusions_are_found(name):
    table, truth = crowd(rng(1), binary(SKILLS), [0.5, 0.5], 3000, 6)
    result = METHODS[name](table)
    assert result.converged
    assert result.annotators is not None
    assert np.abs(result.annotators.reliability_A - SKILLS).max() < 0.06
    inside = (result.annotators.low_A <= SKILLS) & (result.annotators.high_A >= SKILLS)
    assert inside.mean() >= 0.75
    # The best rule there is knows the confusions: nobody beats it, and the fit comes within half a point.
    best = e_step(cells_of(table), Parameters(binary(SKILLS), np.array([0.5, 0.5]), 0.0))[0]
    assert (result.best_I() == truth).mean() >= (best.argmax(1) == truth).mean() - 0.005
    assert (result.best_I() == truth).mean() > (majority(table).best_I() == truth).mean() + 0.1


def test_the_likelihood_is_that_of_brute_force():
    """Two items, two annotators: the sum over all four labellings, by hand."""
    theta = np.array([[[0.8, 0.2], [0.3, 0.7]], [[0.6, 0.4], [0.1, 0.9]]])
    pi = np.array([0.3, 0.7])
    votes = {0: {0: 0, 1: 1}, 1: {0: 1}}
    rows = [(i, a, label) for i, own in votes.items() for a, label in own.items()]
    table = VoteTable.from_arrays(*(np.array(column) for column in zip(*rows, strict=True)), labels=("0", "1"))
    total = 0.0
    for labelling in itertools.product(range(2), repeat=2):
        total += np.prod([pi[z] for z in labelling]) * np.prod([theta[a, labelling[i], label] for i, a, label in rows])
    p, _, likelihood = e_step(cells_of(table), Parameters(theta, pi, 0.0))
    assert likelihood == pytest.approx(np.log(total))
    assert p[1] == pytest.approx(np.array([0.3 * 0.2, 0.7 * 0.7]) / (0.3 * 0.2 + 0.7 * 0.7))


def test_many_votes_on_one_item_do_not_underflow():
    n = 4000
    table = VoteTable.from_arrays(np.zeros(n, dtype=int), np.arange(n), ["a"] * 2400 + ["b"] * 1600)
    for name in METHODS:
        p = METHODS[name](table).p_IL
        assert np.isfinite(p).all()
        assert p[0, 0] >= 0.5


def test_interval_covers_the_posterior_under_the_true_confusions():
    """95 % of the intervals hold the chance that someone who knows every confusion would give, and 95 % the true reliability."""
    items, people = [], []
    for seed in range(60):
        skill = rng(seed).beta(8, 2, 20)
        table, _ = crowd(rng(100 + seed), binary(skill), [0.5, 0.5], 400, 6)
        ideal = e_step(cells_of(table), Parameters(binary(skill), np.array([0.5, 0.5]), 0.0))[0]
        result = dawid_skene(table)
        assert result.annotators is not None
        items.append(((result.low_IL <= ideal) & (ideal <= result.high_IL))[:, 0].mean())
        people.append(((result.annotators.low_A <= skill) & (skill <= result.annotators.high_A)).mean())
    assert 0.93 <= np.mean(items) <= 0.97
    assert 0.92 <= np.mean(people) <= 0.97


def test_shares_intervals_cover():
    generator, inside = rng(7), []
    for _ in range(20):
        share = generator.uniform(0.1, 0.9, 300)
        votes = generator.random((300, 12)) < share[:, None]
        table = VoteTable.from_arrays(np.repeat(np.arange(300), 12), np.tile(np.arange(12), 300), votes.ravel().astype(int))
        result = majority(table)
        inside.append(((result.low_IL[:, 1] <= share) & (share <= result.high_IL[:, 1])).mean())
    assert 0.93 <= np.mean(inside) <= 0.97


def test_a_tie_is_left_a_tie():
    table = VoteTable.from_arrays([1, 1, 2], [1, 2, 1], ["a", "b", "b"])
    result = majority(table)
    assert result.p_IL.tolist() == [[0.5, 0.5], [0, 1]]
    assert result.best_I().tolist() == [-1, 1]
    assert any("1 items end in a tie" in note for note in result.notes)
    assert any("1 of 2 items have one vote only" in note for note in result.notes)


def test_p_a_counts_every_kind_of_tie_half():
    table = VoteTable.from_arrays([1] * 4, range(4), ["a", "a", "both_bad", "tie"], labels=("a", "b", "both_bad", "tie"))
    p, low, high = majority(table).p_a()
    assert p.tolist() == [0.75]
    assert 0 <= low[0] < 0.75 < high[0] <= 1
    two = majority(VoteTable.from_arrays([1] * 4, range(4), ["a", "a", "a", "b"]))
    assert [end[0] for end in two.p_a()] == pytest.approx([0.75, two.low_IL[0, 0], two.high_IL[0, 0]])
    with pytest.raises(DataError, match="no label 'left'"):
        two.p_a("left", "b")


def test_one_annotator_leans_and_her_vote_counts_less():
    """She says 0 nine times in ten: her 0 is weak, her 1 is strong."""
    left = np.array([0.8] * 8 + [0.9])
    right = np.array([0.8] * 8 + [0.1])
    table, _ = crowd(rng(2), binary(left, right), [0.5, 0.5], 2000, 5)
    result = dawid_skene(table)
    assert result.annotators is not None
    confusion = result.annotators.confusion_ALL
    assert confusion is not None
    assert confusion[8] == pytest.approx(np.array([[0.9, 0.1], [0.9, 0.1]]), abs=0.06)


def test_wawa_leaves_her_own_vote_out():
    # Item 1: a a b. The a-voters agree with 1 of 2 others, the b-voter with none; strength 0 keeps that.
    table = VoteTable.from_arrays([1, 1, 1], [1, 2, 3], ["a", "a", "b"])
    result = wawa(table, strength=0.0)
    assert result.annotators is not None
    assert result.annotators.reliability_A == pytest.approx([0.5, 0.5, 0.0])
    assert result.p_IL.tolist() == [[1.0, 0.0]]


def test_mace_finds_who_knows_and_what_the_others_write():
    """Half know the label with chance .9; the others write 2 whatever it is."""
    knows = np.array([0.9] * 8 + [0.0] * 8)
    habit = np.where(np.arange(16)[:, None] < 8, np.full(3, 1 / 3), np.array([0.05, 0.05, 0.9]))
    theta = knows[:, None, None] * np.eye(3) + (1 - knows)[:, None, None] * habit[:, None, :]
    table, truth = crowd(rng(4), theta, [0.4, 0.3, 0.3], 800, 6)
    result = mace(table, rng=rng(), restarts=4)
    assert (result.best_I() == truth).mean() > 0.97
    assert (majority(table).best_I() == truth).mean() < 0.85
    assert result.annotators is not None
    assert result.annotators.reliability_A[:8].min() > 0.85
    assert any("4 starts" in note for note in result.notes)


def test_the_starts_of_mace_differ():
    """On a hard table the bounds of different starts are not all one number."""
    table, _ = crowd(rng(5), binary(np.full(30, 0.55)), [0.5, 0.5], 60, 3)
    (note,) = (note for note in mace(table, rng=rng(), restarts=6, tolerance=1e-9).notes if "starts" in note)
    low, high = map(float, re.findall(r"bounds (\S+) to ([-.\d]+)", note)[0])
    assert high - low > 0.01


def test_glad_gradient_is_the_derivative():
    table = simulated_crowd(rng(3), n_items=12, n_annotators=6)
    table = VoteTable.from_columns({**table.columns(), "weight": rng(1).uniform(0.5, 2, len(table))}, labels=table.labels)
    assert table.weight_V is not None
    model = GladModel(table, table.weight_V, normalised(shares(table).sum(0)), (1.0, 0.7))
    x = rng(2).normal(0.5, 1.0, 18)
    _, gradient = model.negative(x)
    step = 1e-5
    numeric = [(model.negative(x + step * e)[0] - model.negative(x - step * e)[0]) / (2 * step) for e in np.eye(18)]
    assert gradient == pytest.approx(np.array(numeric), abs=1e-5)


def test_glad_finds_ability_and_difficulty():
    generator = rng(6)
    ability, ease = np.array([2.5] * 10 + [0.3] * 10 + [-2.0] * 3), np.exp(generator.normal(0, 0.7, 1500))
    truth = generator.integers(0, 2, 1500)
    who = np.argsort(generator.random((1500, 23)), axis=1)[:, :7]
    right = generator.random((1500, 7)) < 1 / (1 + np.exp(-ability[who] * ease[:, None]))
    label = np.where(right, truth[:, None], 1 - truth[:, None])
    table = VoteTable.from_arrays(np.repeat(np.arange(1500), 7), who.ravel(), label.ravel())
    result = glad(table)
    assert result.converged
    assert (result.best_I() == truth).mean() > (majority(table).best_I() == truth).mean() + 0.03
    assert result.annotators is not None
    assert result.annotators.reliability_A[:10].min() > result.annotators.reliability_A[10:20].max()
    assert result.annotators.high_A[20:].max() < 0.5


def test_one_vote_items_say_nothing_about_their_annotator():
    """A thousand lonely votes leave an annotator as unknown as before."""
    table, _ = crowd(rng(8), binary(np.full(10, 0.8)), [0.5, 0.5], 300, 4)
    columns = table.columns()
    lonely = {"item": [f"lonely-{i}" for i in range(1000)], "annotator": ["new"] * 1000, "label": ["0", "1"] * 500}
    both = {name: [*map(str, values.tolist()), *lonely[name]] for name, values in columns.items()}
    result = dawid_skene(VoteTable.from_columns(both))
    assert result.annotators is not None
    new = result.annotators.names.tolist().index("new")
    assert result.annotators.high_A[new] - result.annotators.low_A[new] > 0.4
    assert any("1000 of 1300 items have one vote only" in note for note in result.notes)


def test_a_label_that_no_longer_means_its_name_is_told():
    """Every tenth vote is a careless "unsure"; nobody's item is unsure. A class for it has nothing of its own."""
    theta = np.array([[0.5, 0.1, 0.4], [0.4, 0.1, 0.5], [0.7, 0.1, 0.2]])
    table, _ = crowd(rng(9), np.repeat(theta[None], 30, axis=0), [0.5, 0.0, 0.5], 150, 25)
    result = dawid_skene(table, "ml")
    assert any("'1' has drifted" in note for note in result.notes)


def test_what_label_models_refuse():
    table = simulated_crowd(rng())
    mixed = VoteTable.from_columns({**table.columns(), "objective": ["x", "y"] * (len(table) // 2)}, labels=table.labels)
    for method in METHODS.values():
        with pytest.raises(DataError, match="different objectives"):
            method(mixed)
    for bad in (
        lambda: dawid_skene(table, "em"),  # type: ignore[arg-type]
        lambda: dawid_skene(table, strength=-1.0),
        lambda: mace(table, rng=rng(), restarts=0),
        lambda: glad(table, spread=(0.0, 1.0)),
        lambda: majority(table, smoothing=-1.0),
        lambda: wawa(table, strength=-1.0),
    ):
        with pytest.raises(ConfigError):
            bad()


def test_the_contract_catches_planted_faults():
    def first_column_wins(table):
        return np.eye(table.n_labels)[majority(table).p_IL.argmax(1)]

    def by_name(table):
        p = majority(table).p_IL.copy()
        p[0] = 1 / table.n_labels
        return p

    def half_a_vote(table):
        return normalised(table.counts_IL + np.arange(table.n_labels))

    def random(table):
        return np.random.default_rng().dirichlet(np.ones(table.n_labels), table.n_items)

    def falling(table):
        result = majority(table)
        fit = Convergence(True, 2, -1.0, (-1.0, -2.0))
        fields = {name: getattr(result, name) for name in ("items", "labels", "p_IL", "low_IL", "high_IL", "votes_I", "interval")}
        return LabelResult(method="falling", fit=fit, **fields)

    for fault, promise in (
        (first_column_wins, "label order"),
        (by_name, "item names"),
        (half_a_vote, "label order|swapped"),
        (random, "repeated call"),
        (falling, "never falls"),
        (lambda table: np.ones((table.n_items, table.n_labels)), "sum to 1"),
        (lambda table: majority(table).p_IL[:1], "shape"),
    ):
        with pytest.raises(AssertionError, match=promise):
            check_aggregator(fault)


def test_one_convergence_test():
    _, fit = iterate(lambda x: (x / 2, -x, -x), 1.0, tolerance=1e-3, max_iterations=100)
    assert fit.converged
    assert fit.iterations == len(fit.trace) == 11  # -2^-k changes by 2^-k; 2^-10 < .001 (1 + 2^-10)
    assert falls(fit.trace) == 0.0
    assert falls([-1.0, -2.0]) == pytest.approx(1 / 3)
    assert not iterate(lambda x: (x / 2, -x, -x), 1.0, tolerance=1e-3, max_iterations=3)[1].converged
    with pytest.raises(FitError, match="nan"):
        iterate(lambda x: (x, float("nan"), 0.0), 1.0, tolerance=1e-3, max_iterations=3)


def test_weights_count():
    table = VoteTable.from_arrays([1, 1], [1, 2], ["a", "b"], weight=[3.0, 1.0])
    assert majority(table).p_IL.tolist() == [[0.75, 0.25]]
    twice = VoteTable.from_arrays([1, 1, 1], [1, 1, 2], ["a", "a", "b"], policies=Policies(repeats="share"))
    assert majority(twice).p_IL.tolist() == [[0.5, 0.5]]
