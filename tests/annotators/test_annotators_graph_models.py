"""From a table of votes to scores of responses and back to soft labels of the pairs; the automatic choice between both kinds of models."""

import json

import numpy as np
import pytest
from pair_worlds import planted

from preferent.annotators.annotator_slope import PairModel, objective, start
from preferent.annotators.bradley_terry import Settings, fit_pairs
from preferent.annotators.choose import choose
from preferent.annotators.contract import check_aggregator, check_gradient, simulated_pairs
from preferent.annotators.glad import GladModel
from preferent.annotators.graph import BLOCK, pair_table, pair_votes
from preferent.annotators.graph_models import graph_model, is_graph, pairs_of
from preferent.annotators.graph_read import with_texts
from preferent.annotators.mixture import MixtureSettings, fit_mixture
from preferent.annotators.names import GRAPH_MODELS
from preferent.annotators.profiles import profiles
from preferent.annotators.table import VoteTable
from preferent.annotators.table_columns import Policies
from preferent.annotators.table_read import read_votes
from preferent.core.errors import ConfigError, DataError

TIGHT = Settings(tolerance=1e-12)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- what every method owes ----


@pytest.mark.parametrize("name", GRAPH_MODELS)
def test_models_over_responses_keep_the_contract(name):
    seen = check_aggregator(lambda table: graph_model(table, name, TIGHT), simulated_pairs(rng()), copies=0.02)
    assert {"response names", "kinds of ties", "every vote twice, shared", "likelihood never falls"} <= set(seen)
    # Half the weight twice is the vote itself, exactly: no prior moves.
    assert seen["every vote twice, shared"] < 1e-6


def test_auto_keeps_the_contract_where_it_chooses_scores():
    table = simulated_pairs(rng())
    assert choose(table, rng()).method.split(" + ")[0] in GRAPH_MODELS
    # Copies hold out other votes, so the weight of the scores in the blend moves a little; new names move nothing.
    check_aggregator(lambda one: choose(one, rng()).result, table, copies=0.1)


def test_the_mixture_keeps_the_contract():
    def of_groups(table):
        fit = fit_mixture(pairs_of(table), MixtureSettings(groups=2))
        n = len(table.sides.responses)
        place = {key: at for at, key in enumerate((fit.lo_P * n + fit.hi_P).tolist())}
        p_P = (fit.share_K[:, None] * fit.p_a.value).sum(axis=0)
        low, high = np.minimum(table.sides.a_I, table.sides.b_I), np.maximum(table.sides.a_I, table.sides.b_I)
        p_I = p_P[[place[key] for key in (low.astype(np.int64) * n + high).tolist()]]
        p_I = np.where(table.sides.a_I < table.sides.b_I, p_I, 1.0 - p_I)
        return np.stack([p_I if label == "a" else 1.0 - p_I for label in table.labels], axis=1)

    table = simulated_pairs(rng(1))
    binary = table.where(table.label_V < 2).without_unused_labels()
    # Random restarts are drawn for annotators in their order: a new order may end in a slightly different optimum.
    check_aggregator(of_groups, binary, tolerance=0.02, copies=0.15)


def test_a_wrong_aggregator_is_caught():
    def forgets_the_sides(table):
        result = graph_model(table, "davidson")
        p_IL = result.p_IL.copy()
        p_IL[:, 0], p_IL[:, 1] = np.maximum(p_IL[:, 0], p_IL[:, 1]), np.minimum(p_IL[:, 0], p_IL[:, 1])
        return p_IL

    def merges_ties(table):
        p_IL = graph_model(table, "davidson").p_IL.copy()
        tied = [code for code, label in enumerate(table.labels) if label not in ("a", "b")]
        p_IL[:, tied] = p_IL[:, tied].mean(axis=1, keepdims=True)
        return p_IL

    with pytest.raises(AssertionError, match=r"label order|swapped sides"):
        check_aggregator(forgets_the_sides, simulated_pairs(rng()))
    with pytest.raises(AssertionError, match="kinds of ties"):
        check_aggregator(merges_ties, simulated_pairs(rng()))


def test_gradients_are_derivatives_and_a_wrong_one_is_caught():
    world = planted(1, (8, 5, 60), tie=-0.3)
    weight = rng(4).uniform(0.5, 2.0, 60)
    lengths = rng(5).uniform(5, 500, 8)
    votes = pair_votes(
        world.items_V2,
        world.outcome_V,
        annotator_V=world.annotator_V,
        shown_first_V=world.items_V2[:, 0],
        lengths_I=lengths,
        weight_V=weight,
    )
    table = pair_table(votes)
    model = PairModel(ties="davidson", position="annotator", length="deviation")
    point = rng(2).normal(0, 0.5, len(start(table, model).flat()))
    assert check_gradient(lambda x: objective(x, table, model), point) < 1e-6
    crowd = simulated_pairs(rng(), n_responses=5, votes=3)
    glad = GladModel(crowd, np.ones(len(crowd)), np.full(3, 1 / 3), (1.0, 1.0))
    check_gradient(glad.negative, rng(3).normal(0.5, 0.3, crowd.n_annotators + crowd.n_items), tolerance=1e-4)
    with pytest.raises(AssertionError, match="gradient: parameter"):
        check_gradient(lambda x: (objective(x, table, model)[0], 1.1 * objective(x, table, model)[1]), point)


# ---- weights and blocks ----


def test_a_weight_of_two_is_two_votes():
    world = planted(7, (10, 5, 200), tie=0.0)
    model = PairModel(ties="davidson", learn_spreads=False)
    twice = np.tile(world.items_V2, (2, 1)), np.tile(world.outcome_V, 2), np.tile(world.annotator_V, 2)
    one = fit_pairs(pair_votes(world.items_V2, world.outcome_V, annotator_V=world.annotator_V, weight_V=np.full(200, 2.0)), model, TIGHT)
    two = fit_pairs(pair_votes(twice[0], twice[1], annotator_V=twice[2]), model, TIGHT)
    assert one.scores.value == pytest.approx(two.scores.value, abs=1e-4)
    assert one.gap.high == pytest.approx(two.gap.high, abs=1e-4)
    assert one.log_likelihood == pytest.approx(two.log_likelihood, rel=1e-6)
    with pytest.raises(DataError, match=r"row 0: weight 0\.0"):
        pair_votes([[0, 1]], [1], weight_V=[0.0])


def test_blocks_are_the_votes_in_pieces():
    world = planted(3, (60, 20, 2 * BLOCK + 5000), tie=0.0)
    table = pair_table(world.votes)
    assert sum(len(part.win_V) for part in table.parts) == len(table.win_V)
    np.testing.assert_array_equal(np.concatenate([part.hi_P for part in table.parts]), table.hi_P)
    model = PairModel(ties="davidson", position="annotator")
    whole = pair_table(world.votes)
    object.__setattr__(whole, "parts", ())
    point = rng(1).normal(0, 0.5, len(start(table, model).flat()))
    (value, gradient), (again, same) = objective(point, table, model), objective(point, whole, model)
    assert value == pytest.approx(again, rel=1e-12)
    assert gradient == pytest.approx(same, rel=1e-8, abs=1e-6)


# ---- the adapter ----


def test_votes_become_pairs_by_hand():
    columns = {
        "item": ["c1", "c1", "c2"],
        "annotator": ["x", "y", "x"],
        "label": ["a", "tie", "b"],
        "shown_first": ["b", None, "a"],
        "side_a": ["r2", "r2", "r1"],
        "side_b": ["r1", "r1", "r3"],
        "length_a": [40.0, 40.0, 10.0],
        "length_b": [10.0, 10.0, None],
    }
    table = VoteTable.from_columns(columns, labels=("a", "b", "tie"))
    votes = pairs_of(table)
    assert table.sides.responses.tolist() == ["r1", "r2", "r3"]
    assert votes.item_i_V.tolist() == [1, 1, 0]
    assert votes.item_j_V.tolist() == [0, 0, 2]
    assert votes.outcome_V.tolist() == [1.0, 0.5, 0.0]
    assert votes.first_V.tolist() == [-1.0, 0.0, 1.0]  # c1 by x: b first, which is item j
    assert votes.length_V == pytest.approx([np.log(4), np.log(4), 0.0])  # r3's length is not known
    assert is_graph(table)  # r1 meets r2 and r3
    assert not is_graph(table.where(table.item_V == 0))
    swapped = pairs_of(table.swap())
    assert swapped.item_i_V.tolist() == [0, 0, 2]
    assert swapped.outcome_V.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"side_b": ["r1", "r9", "r3"]}, "'c1' is about"),
        ({"side_b": ["r1", "r1", "r1"]}, "compares a response with itself"),
        ({"side_b": ["r1", "r1", None]}, "has no response on one side"),
        ({"side_b": None}, "a pair has both of"),
    ],
)
def test_sides_that_do_not_fit_are_refused(change, said):
    columns = {"item": ["c1", "c1", "c2"], "annotator": ["x", "y", "x"], "label": ["a", "b", "b"], "side_a": ["r2", "r2", "r1"]}
    columns |= {"side_b": ["r1", "r1", "r3"]} | change
    with pytest.raises(DataError, match=said):
        VoteTable.from_columns({name: values for name, values in columns.items() if values is not None})


def test_what_graph_models_refuse():
    bare = VoteTable.from_arrays(["c1"], ["x"], ["a"])
    with pytest.raises(DataError, match="do not say"):
        graph_model(bare, "davidson")
    with pytest.raises(ConfigError, match="elo"):
        graph_model(bare, "elo")
    odd = VoteTable.from_columns({"item": ["c"], "annotator": ["x"], "label": ["left"], "side_a": ["r"], "side_b": ["s"]})
    with pytest.raises(DataError, match="'left'"):
        graph_model(odd, "davidson")


def test_both_kinds_of_bad_and_good_are_ties_to_scores_and_stay_three_labels():
    columns = {
        "item": [f"c{k}" for k in range(6)],
        "annotator": ["x"] * 6,
        "label": ["a", "tie", "both_good", "both_bad", "b", "both_bad"],
        "side_a": [f"r{k}" for k in range(6)],
        "side_b": [f"r{(k + 1) % 6}" for k in range(6)],
    }
    table = VoteTable.from_columns(columns)
    result = graph_model(table, "davidson")
    assert pairs_of(table).outcome_V.tolist() == [1.0, 0.5, 0.5, 0.5, 0.0, 0.5]
    kinds = [table.labels.index(label) for label in ("tie", "both_good", "both_bad")]
    assert result.p_IL[[1, 2, 3]][:, kinds].argmax(axis=1).tolist() == [0, 1, 2]
    assert result.p_IL.sum(axis=1) == pytest.approx(np.ones(6))


# ---- texts ----


def rows_with_texts(tmp_path, rows, name="judgments.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_response_is_its_text_within_its_prompt(tmp_path):
    def row(item, prompt, a, b, choice="a"):
        return {"comparison_id": item, "annotator_id": "x", "choice": choice, "prompt": prompt, "response_a": a, "response_b": b}

    path = rows_with_texts(
        tmp_path,
        [row("c3", "q", "one", "two"), row("c1", "q", "two", "three"), row("c2", "other", "one", "two"), row("c4", "q", "no", "no")],
    )
    table, texts = with_texts(read_votes(path), path)
    pairs = {item: texts.pairs[item] for item in ("c1", "c2", "c3", "c4")}
    # c1 and c3 share "two" under "q", which c1 (the smallest id) names; "one" under "other" is another response.
    assert pairs == {"c1": ("c1/a", "c1/b"), "c2": ("c2/a", "c2/b"), "c3": ("c3/a", "c1/a"), "c4": ("c4/a", "c4/b")}
    assert texts.lengths["c1/b"] == 5.0
    assert texts.texts["c3/a"] == ("q", "one")
    assert is_graph(table)
    clash = rows_with_texts(tmp_path, [row("c1", "q", "one", "two"), row("c1", "q", "two", "one")], "clash.jsonl")
    with pytest.raises(DataError, match=r"clash\.jsonl:2: 'c1' has other texts"):
        with_texts(read_votes(clash, policies=Policies(repeats="keep")), clash)


def test_ids_of_the_rows_are_kept_and_get_lengths_and_texts(tmp_path):
    base = {"annotator_id": "x", "choice": "a", "prompt": "q"}
    ids = [("m1", "m2"), ("m2", "m3")]
    texts = {"m1": "short", "m2": "rather longer", "m3": "x"}
    rows = [
        {**base, "comparison_id": f"c{k}", "response_a_id": a, "response_b_id": b, "response_a": texts[a], "response_b": texts[b]}
        for k, (a, b) in enumerate(ids)
    ]
    path = rows_with_texts(tmp_path, rows)
    table, found = with_texts(read_votes(path), path)
    assert table.sides.responses.tolist() == ["m1", "m2", "m3"]
    assert table.sides.length_R.tolist() == [5.0, 13.0, 1.0]
    assert found.texts["m2"] == ("q", "rather longer")
    # A system that writes something else each time is still one node, without a length.
    rows[1]["response_a"] = "something else"
    path = rows_with_texts(tmp_path, rows, "systems.jsonl")
    table, found = with_texts(read_votes(path), path)
    assert found is None
    assert table.sides.responses.tolist() == ["m1", "m2", "m3"]
    assert table.sides.length_R is None


# ---- named, and what the prior did ----


def test_every_soft_spot_is_named_in_the_rows():
    # r0 beats everybody it met; r3 and r4 are a component of their own with one vote; r2 never won.
    columns = {
        "item": ["c1", "c1", "c2", "c3", "c4"],
        "annotator": ["x", "y", "x", "x", "x"],
        "label": ["a", "a", "a", "a", "a"],
        "side_a": ["r0", "r0", "r1", "r0", "r3"],
        "side_b": ["r1", "r1", "r2", "r2", "r4"],
    }
    result = graph_model(VoteTable.from_columns(columns, labels=("a", "b")), "bradley_terry")
    said = {str(name): result.responses.warnings(row) for row, name in enumerate(result.responses.names)}
    assert any(text.startswith("undefeated") for text in said["r0"])
    assert said["r1"] == []
    assert any(text.startswith("winless") for text in said["r2"])
    assert any(text.startswith("apart") for text in said["r3"])
    assert "one vote" in said["r4"]
    assert np.isfinite([result.responses.score_R, result.responses.low_R, result.responses.high_R]).all()
    # One vote tells less than three: more of what is left is the prior's.
    assert result.responses.prior_R[3] > result.responses.prior_R[1]
    assert any("one vote" in text for text in result.warnings(3))
    assert any("a never lost" in text for text in result.warnings(0))


def test_profiles_say_who_clicks_left_who_likes_length_and_who_is_fast():
    generator = rng(6)
    n, people = 30, 12
    scores, length = generator.normal(0, 1.2, n), generator.uniform(20, 2000, n)
    a, b = np.triu_indices(n, 1)
    item = np.repeat(np.arange(len(a)), 5)
    who = np.argsort(generator.random((len(a), people)), axis=1)[:, :5].ravel()
    first = generator.integers(0, 2, len(item))
    d = 1.5 * (scores[a] - scores[b])[item] + np.where(who == 1, 4.0 * np.log(length[a] / length[b])[item], 0.0)
    vote = (generator.random(len(d)) > 1 / (1 + np.exp(-d))).astype(int)
    vote = np.where(who == 0, first, vote)
    names = np.array(["a", "b"], dtype=object)
    columns = {
        "item": item,
        "annotator": who,
        "label": names[vote].tolist(),
        "shown_first": names[first].tolist(),
        "seconds": np.where(who == 2, 0.4, generator.lognormal(3, 0.3, len(item))),
        "side_a": a[item],
        "side_b": b[item],
        "length_a": length[a][item],
        "length_b": length[b][item],
    }
    table = VoteTable.from_columns(columns, labels=("a", "b"))
    rows = profiles(table, graph_model(table, "annotator_slope"))
    kinds = {row.annotator: {flag.kind for flag in row.flags} for row in rows if row.flags}
    assert "left" in kinds[0]
    assert kinds[1] == {"long"}
    assert kinds[2] == {"too fast"}
    assert set(kinds) == {0, 1, 2}
    assert rows[0].first.value == 1.0
    assert rows[1].longer.value > 0.7
    assert rows[2].seconds == pytest.approx(0.4)
    assert rows[5].ties is None
    assert rows[5].reliability.low < rows[5].reliability.value < rows[5].reliability.high
    assert rows[0].reliability.value < 0.65 < rows[5].reliability.value
    assert {"slope", "position", "length"} == set(rows[0].traits)


# ---- the choice ----


def test_scores_are_chosen_where_pairs_share_responses_and_only_there():
    generator = rng(8)
    n = 25
    scores = generator.normal(0, 1.3, n)
    a, b = np.triu_indices(n, 1)
    item = np.repeat(np.arange(len(a)), 3)
    who = np.argsort(generator.random((len(a), 15)), axis=1)[:, :3].ravel()
    vote = (generator.random(len(item)) > 1 / (1 + np.exp(-(scores[a] - scores[b])[item]))).astype(int)
    label = np.array(["a", "b"], dtype=object)[vote].tolist()
    graph = VoteTable.from_columns({"item": item, "annotator": who, "label": label, "side_a": a[item], "side_b": b[item]})
    choice = choose(graph, rng())
    assert choice.method.split(" + ")[0] in GRAPH_MODELS
    assert "ahead of" in choice.reason
    p_a, low, high = choice.result.p_a()
    assert ((p_a > 0.5) == (scores[a] > scores[b])).mean() > 0.85
    assert ((low <= p_a) & (p_a <= high)).all()
    # The same votes on pairs that share nothing: a label model.
    apart = VoteTable.from_columns({"item": item, "annotator": who, "label": label, "side_a": 2 * item, "side_b": 2 * item + 1})
    assert choose(apart, rng()).method in ("panel", "majority")


def test_labels_stay_where_scores_explain_nothing():
    """Every pair has its own preference, whatever the responses did elsewhere."""
    generator = rng(9)
    a, b = np.triu_indices(20, 1)
    item = np.repeat(np.arange(len(a)), 8)
    who = np.argsort(generator.random((len(a), 15)), axis=1)[:, :8].ravel()
    truth = generator.integers(0, 2, len(a))
    vote = np.where(generator.random(len(item)) < 0.85, truth[item], 1 - truth[item])
    label = np.array(["a", "b"], dtype=object)[vote].tolist()
    table = VoteTable.from_columns({"item": item, "annotator": who, "label": label, "side_a": a[item], "side_b": b[item]})
    choice = choose(table, rng())
    assert choice.method in ("panel", "majority")
    assert "the labels stay" in choice.reason


def test_one_vote_a_pair_is_enough_for_scores():
    generator = rng(10)
    scores = generator.normal(0, 1.5, 40)
    a, b = np.triu_indices(40, 1)
    vote = (generator.random(len(a)) > 1 / (1 + np.exp(-(scores[a] - scores[b])))).astype(int)
    columns = {"item": np.arange(len(a)), "annotator": generator.integers(0, 8, len(a)), "side_a": a, "side_b": b}
    table = VoteTable.from_columns({**columns, "label": np.array(["a", "b"], dtype=object)[vote].tolist()})
    choice = choose(table, rng())
    assert choice.method.split(" + ")[0] in GRAPH_MODELS
    p_a = choice.result.p_a()[0]
    assert ((p_a > 0.5) == (scores[a] > scores[b])).mean() > 0.85  # a single vote is right about 77 times in 100
