"""What every aggregator owes its caller, as a check that anyone can run on one of their own.

    from preferent.annotators.contract import check_aggregator
    check_aggregator(lambda table: my_method(table))      # raises AssertionError with the broken promise and by how much

An aggregator maps a VoteTable to a LabelResult, or to an array of shape (items, labels) in the table's order.

Legend: I items, A annotators, L labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from preferent.annotators.convergence import falls
from preferent.annotators.labels import LabelResult
from preferent.annotators.table import VoteTable
from preferent.annotators.table_columns import Policies
from preferent.annotators.table_sides import SIDES
from preferent.core.errors import DataError
from preferent.core.records import Floats

Aggregator = Callable[[VoteTable], LabelResult | Floats]


def check_aggregator(
    fn: Aggregator, table: VoteTable | None = None, *, tolerance: float = 1e-6, copies: float = 0.05, seed: int = 0
) -> dict[str, float]:
    """Check that the answer depends on the votes alone: not on row order, names, sides, or copies of the data.

    `table` defaults to a simulated crowd with ties, spammers and an adversary; a table of your own must have labels a and b and no
    repeated votes. `tolerance` is the largest allowed difference of a chance; `copies` that for a copy of the whole data beside itself
    (new items, new annotators), where pooled priors may move a little. Returns promise -> largest difference seen. Raises
    AssertionError with the promise that is broken.
    """
    rng = np.random.default_rng(seed)
    table = simulated_crowd(rng) if table is None else table
    columns = table.columns()
    p_IL = _answer(fn, table, "a plain call")
    seen = {"repeated call": _compare("repeated call", p_IL, _answer(fn, table, "repeated call"), 0.0)}
    order_V = rng.permutation(len(table))
    shuffled = VoteTable.from_columns({name: values[order_V] for name, values in columns.items()}, labels=table.labels)
    seen["row order"] = _compare("row order", p_IL, _answer(fn, shuffled, "row order"), tolerance)
    for what, names in (("item", table.items), ("annotator", table.annotators)):
        code_of, fresh = {name: code for code, name in enumerate(names.tolist())}, rng.permutation(len(names))
        renamed = [f"{fresh[code_of[name]]:07d}" for name in columns[what].tolist()]
        other = VoteTable.from_columns({**columns, what: renamed}, labels=table.labels)
        rows = _answer(fn, other, f"{what} names")
        # Row of the renamed table that holds the item with this code.
        again = rows[fresh] if what == "item" else rows
        seen[f"{what} names"] = _compare(f"{what} names", p_IL, again, tolerance)
    if table.sides is not None:
        seen["response names"] = _response_names(fn, table, p_IL, rng, tolerance)
    seen["label order"] = _label_order(fn, table, p_IL, tolerance)
    seen["swapped sides"] = _swapped(fn, table, p_IL, tolerance)
    seen |= _copies(fn, table, p_IL, tolerance, copies)
    if "tie" in table.labels:
        seen["kinds of ties"] = _kinds_of_ties(fn, table, tolerance)
    seen["likelihood never falls"] = _never_falls(fn, table)
    return seen | _refusals(table)


def check_gradient(
    loss: Callable[[Floats], tuple[float, Floats]], point_X: Floats, *, tolerance: float = 1e-5, step: float = 1e-5
) -> float:
    """Check that the gradient which `loss` returns beside its value is the derivative of that value, by central differences.

    Returns the largest difference, as a share of the gradient's length; raises AssertionError with the parameter when it is above
    `tolerance`.
    """
    point_X = np.asarray(point_X, dtype=np.float64)
    _, gradient_X = loss(point_X.copy())
    numeric_X = np.empty_like(point_X)
    for k in range(len(point_X)):
        ends = []
        for sign in (1.0, -1.0):
            moved_X = point_X.copy()
            moved_X[k] += sign * step
            ends.append(loss(moved_X)[0])
        numeric_X[k] = (ends[0] - ends[1]) / (2.0 * step)
    apart_X = np.abs(gradient_X - numeric_X) / max(1e-12, float(np.linalg.norm(numeric_X)))
    worst = int(apart_X.argmax())
    if not apart_X[worst] <= tolerance:
        raise AssertionError(
            f"gradient: parameter {worst} has {gradient_X[worst]:.6g}, differences give {numeric_X[worst]:.6g} "
            f"({apart_X[worst]:.2g} of the gradient's length, allowed {tolerance:.0e})"
        )
    return float(apart_X[worst])


def simulated_pairs(rng: np.random.Generator, *, n_responses: int = 16, n_annotators: int = 12, votes: int = 3) -> VoteTable:
    """All pairs of a few responses with planted scores, voted on with ties by good annotators and one adversary: a table with sides."""
    scores_R = rng.normal(0.0, 1.5, n_responses)
    a_I, b_I = np.triu_indices(n_responses, 1)
    turned_I = rng.random(len(a_I)) < 0.5
    a_I, b_I = np.where(turned_I, b_I, a_I), np.where(turned_I, a_I, b_I)
    item_V = np.repeat(np.arange(len(a_I)), votes)
    annotator_V = np.argsort(rng.random((len(a_I), n_annotators)), axis=1)[:, :votes].ravel()
    d_V = (scores_R[a_I] - scores_R[b_I])[item_V] * np.where(annotator_V == 0, -1.0, 1.0)
    weights_VL = np.stack([np.exp(d_V / 2), np.exp(-d_V / 2), np.full(len(d_V), 0.7)], axis=1)
    cumulative_VL = np.cumsum(weights_VL / weights_VL.sum(axis=1, keepdims=True), axis=1)
    label_V = (rng.random((len(d_V), 1)) > cumulative_VL[:, :2]).sum(axis=1)
    names = np.array(["a", "b", "tie"], dtype=object)
    columns = {
        "item": [f"pair-{i:04d}" for i in item_V],
        "annotator": [f"ann-{a:02d}" for a in annotator_V],
        "label": names[label_V].tolist(),
        "side_a": [f"r{one:02d}" for one in a_I[item_V]],
        "side_b": [f"r{one:02d}" for one in b_I[item_V]],
    }
    return VoteTable.from_columns(columns, labels=("a", "b", "tie"))


def simulated_crowd(rng: np.random.Generator, *, n_items: int = 120, n_annotators: int = 15, votes: int = 5) -> VoteTable:
    """A small crowd on a, b and tie: good annotators, two spammers, one adversary."""
    truth_I = rng.choice(3, n_items, p=[0.45, 0.4, 0.15])
    item_V = np.repeat(np.arange(n_items), votes)
    annotator_V = np.argsort(rng.random((n_items, n_annotators)), axis=1)[:, :votes].ravel()
    truth_V = truth_I[item_V]
    right_V = rng.random(len(item_V)) < np.where(annotator_V < 2, 0.0, 0.75)
    label_V = np.where(right_V, truth_V, rng.integers(0, 3, len(item_V)))
    opposite = np.array([1, 0, 2])
    label_V = np.where(annotator_V == 2, opposite[truth_V], label_V)
    names = np.array(["a", "b", "tie"], dtype=object)
    items, annotators = [f"pair-{i:04d}" for i in item_V], [f"ann-{a:02d}" for a in annotator_V]
    return VoteTable.from_arrays(items, annotators, names[label_V].tolist(), labels=("a", "b", "tie"))


def _answer(fn: Aggregator, table: VoteTable, call: str) -> Floats:
    """The chances of one call, after their shape and range were looked at."""
    result = fn(table)
    p_IL = result.p_IL if isinstance(result, LabelResult) else np.asarray(result, dtype=np.float64)
    if p_IL.shape != (table.n_items, table.n_labels):
        raise AssertionError(f"{call}: the answer must have shape {(table.n_items, table.n_labels)}, got {p_IL.shape}")
    if not np.isfinite(p_IL).all() or p_IL.min() < 0 or np.abs(p_IL.sum(axis=1) - 1.0).max() > 1e-6:
        raise AssertionError(f"{call}: chances must be finite, >= 0 and sum to 1 on every item")
    if isinstance(result, LabelResult) and ((result.low_IL > p_IL + 1e-9) | (result.high_IL < p_IL - 1e-9)).any():
        raise AssertionError(f"{call}: an interval does not hold its own value")
    return p_IL


def _compare(promise: str, expected_IL: Floats, got_IL: Floats, allowed: float) -> float:
    difference_IL = np.abs(expected_IL - got_IL)
    worst = float(difference_IL.max())
    if worst > allowed:
        item = int(difference_IL.max(axis=1).argmax())
        raise AssertionError(
            f"{promise}: item {item} has {np.round(got_IL[item], 6).tolist()} instead of {np.round(expected_IL[item], 6).tolist()} "
            f"(difference {worst:.2g}, allowed {allowed:.0e})"
        )
    return worst


def _label_order(fn: Aggregator, table: VoteTable, p_IL: Floats, tolerance: float) -> float:
    """The labels listed the other way round: the columns move, nothing else does."""
    turned = VoteTable.from_columns(table.columns(), labels=table.labels[::-1])
    return _compare("label order", p_IL, _answer(fn, turned, "label order")[:, ::-1], tolerance)


def _swapped(fn: Aggregator, table: VoteTable, p_IL: Floats, tolerance: float) -> float:
    order = list(range(table.n_labels))
    a, b = table.labels.index("a"), table.labels.index("b")
    order[a], order[b] = b, a
    return _compare("swapped sides", p_IL, _answer(fn, table.swap(), "swapped sides")[:, order], tolerance)


def _response_names(fn: Aggregator, table: VoteTable, p_IL: Floats, rng: np.random.Generator, tolerance: float) -> float:
    assert table.sides is not None
    names = [str(name) for name in table.sides.responses.tolist()]
    fresh = dict(zip(names, (f"{code:07d}" for code in rng.permutation(len(names))), strict=True))
    columns = table.columns()
    renamed = {what: [fresh[str(name)] for name in columns[what].tolist()] for what in SIDES}
    other = VoteTable.from_columns({**columns, **renamed}, labels=table.labels)
    return _compare("response names", p_IL, _answer(fn, other, "response names"), tolerance)


def _kinds_of_ties(fn: Aggregator, table: VoteTable, tolerance: float) -> float:
    """Half of the ties become "both_bad": it is a label of its own, and exchanging the two names exchanges two columns."""
    columns = table.columns()
    said = np.array(columns["label"], dtype=object)
    ties = np.flatnonzero(said == "tie")
    said[ties[::2]] = "both_bad"
    labels = (*table.labels, "both_bad")
    one_IL = _answer(fn, VoteTable.from_columns({**columns, "label": said.tolist()}, labels=labels), "both_bad")
    turned = {"tie": "both_bad", "both_bad": "tie"}
    other = [turned.get(label, label) for label in said.tolist()]
    two_IL = _answer(fn, VoteTable.from_columns({**columns, "label": other}, labels=labels), "both_bad and tie exchanged")
    tie, bad = labels.index("tie"), labels.index("both_bad")
    # A method without ties gives both columns nothing, which confuses nobody.
    if np.abs(one_IL[:, tie] - one_IL[:, bad]).max() < 1e-9 and one_IL[:, [tie, bad]].any():
        raise AssertionError("kinds of ties: tie and both_bad have the same chance on every item, as if they were one label")
    order = list(range(len(labels)))
    order[tie], order[bad] = bad, tie
    return _compare("kinds of ties", one_IL, two_IL[:, order], tolerance)


def _copies(fn: Aggregator, table: VoteTable, p_IL: Floats, tolerance: float, copies: float) -> dict[str, float]:
    """Every vote twice with half the weight, and the whole data beside a copy of itself under new names."""
    columns = table.columns()
    twice = {name: np.concatenate([values, values]) for name, values in columns.items()}
    shared = VoteTable.from_columns(twice, labels=table.labels, policies=Policies(repeats="share"))
    merged = VoteTable.from_columns(twice, labels=table.labels, policies=Policies(repeats="merge"))
    seen = {
        "every vote twice, merged": _compare("every vote twice, merged", p_IL, _answer(fn, merged, "merged"), tolerance),
        "every vote twice, shared": _compare("every vote twice, shared", p_IL, _answer(fn, shared, "shared"), copies),
    }
    beside: dict[str, Any] = dict(twice)
    for what in ("item", "annotator"):
        names = [str(name) for name in columns[what].tolist()]
        beside[what] = [f"0{name}" for name in names] + [f"1{name}" for name in names]
    for what in SIDES:
        if what in columns:
            names = [str(name) for name in columns[what].tolist()]
            beside[what] = [f"0{name}" for name in names] + [f"1{name}" for name in names]
    doubled_IL = _answer(fn, VoteTable.from_columns(beside, labels=table.labels), "a copy beside the data")
    half = table.n_items
    seen["both copies alike"] = _compare("both copies alike", doubled_IL[:half], doubled_IL[half:], tolerance)
    order = np.argsort([f"0{name}" for name in table.items.tolist()], kind="stable")
    seen["a copy beside the data"] = _compare("a copy beside the data", p_IL[order], doubled_IL[:half], copies)
    return seen


def _never_falls(fn: Aggregator, table: VoteTable) -> float:
    result = fn(table)
    if not isinstance(result, LabelResult):
        return 0.0
    worst = falls(result.fit.trace)
    if worst > 0.0:
        raise AssertionError(f"likelihood never falls: the objective fell by {worst:.2g} of its size in {result.method}")
    return worst


def _refusals(table: VoteTable) -> dict[str, float]:
    """Null and repeated votes do not reach an aggregator: the table refuses them."""
    columns = {name: list(values) for name, values in table.columns().items() if name in ("item", "annotator", "label")}
    broken = {"null label": ("label", None), "null annotator": ("annotator", None)}
    cases = {what: {**columns, name: [value, *columns[name][1:]]} for what, (name, value) in broken.items()}
    cases["repeated vote"] = {name: [*values, values[0]] for name, values in columns.items()}
    for what, case in cases.items():
        try:
            VoteTable.from_columns(case, labels=table.labels)
        except DataError:
            continue
        raise AssertionError(f"{what}: the table took it")
    return dict.fromkeys(cases, 0.0)
