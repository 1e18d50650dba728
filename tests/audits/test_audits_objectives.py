"""Objectives beside ratings: worked hypervolumes and fronts, planted heads, and the sections of the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.audits.objectives import ObjectiveStudy, correlation_matrix, spearman, study_objectives
from preferent.audits.objectives_front import efficient, front_of, hypervolume, weight_grid
from preferent.audits.objectives_report import render, sections, verdict_lines, weights_table, write_objectives_report
from preferent.core.errors import DataError
from preferent.core.records import Exchange, Preference, Rating, Scores, user


class Heads:
    """States two objectives as functions of the response, which holds its own numbers: "a b filler..."."""

    name = "heads"

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        numbers = np.array([[float(word) for word in exchange.response.split()[:2]] for exchange in exchanges]).reshape(-1, 2)
        return Scores(reward=numbers.sum(1), objectives={"one": numbers[:, 0], "two": -numbers[:, 1]})


def ratings(n: int, *, noise: float = 0.0, seed: int = 0) -> list[Rating]:
    rng = np.random.default_rng(seed)
    records = []
    for prompt in range(n):
        for _ in range(4):
            a, b = rng.normal(size=2).round(3)
            values = {"one": float(a + noise * rng.normal()), "two": float(b)}
            words = "x " * int(rng.integers(1, 30))
            records.append(Rating(prompt=user(f"p{prompt}"), response=f"{a} {b} {words}", values=values))
    return records


def test_hypervolumes_by_hand() -> None:
    assert hypervolume(np.array([[2.0, 3.0]]), np.zeros(2)) == 6.0
    # Two boxes, 1 x 3 and 2 x 1, sharing 1 x 1.
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 1.0]]), np.zeros(2)) == pytest.approx(4.0)
    # 2x1x1 and 1x2x1 and 1x1x2, sharing the unit cube: 1 + 3.
    corners = np.array([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 2.0]])
    assert hypervolume(corners, np.zeros(3)) == pytest.approx(4.0)
    # A point below the reference somewhere adds nothing; the reference may lie anywhere.
    assert hypervolume(np.array([[2.0, 3.0], [9.0, -1.0]]), np.zeros(2)) == 6.0
    assert hypervolume(np.array([[2.0, 3.0]]), np.array([1.0, 1.0])) == 2.0
    assert hypervolume(np.array([[-1.0, -1.0]]), np.zeros(2)) == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(1, 6), st.integers(0, 10_000))
def test_hypervolume_is_the_share_of_random_points_that_are_dominated(k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random((n, k))
    shots = rng.random((20_000, k))
    share = (shots[:, None, :] <= points[None, :, :]).all(-1).any(-1).mean()
    assert hypervolume(points, np.zeros(k)) == pytest.approx(share, abs=0.02)
    # A dominated point, and the order, change nothing.
    more = np.concatenate([points[::-1], points[:1] * 0.5])
    assert hypervolume(more, np.zeros(k)) == pytest.approx(hypervolume(points, np.zeros(k)))


def test_efficient_points_by_hand() -> None:
    points = np.array([[1.0, 3.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0]])
    assert efficient(points).tolist() == [True, True, False, True]


def test_the_grid_of_weights() -> None:
    grid = weight_grid(2)
    assert len(grid) == 21
    assert np.allclose(grid.sum(1), 1.0)
    assert len(weight_grid(3)) == 45  # (8 + 2 choose 2)
    assert len(np.unique(weight_grid(4), axis=0)) == 56  # (5 + 3 choose 3)


def test_a_front_by_hand() -> None:
    """Two prompts with two responses each: (1, -1) and (-1, 1) on the two objectives. Any weight picks an end; random gets 0."""
    prompts = [user("a"), user("a"), user("b"), user("b")]
    values = np.array([[1.0, -1.0], [-1.0, 1.0]] * 2)
    front = front_of(("x", "y"), prompts, values, values, rng=np.random.default_rng(0))
    assert front is not None
    assert {tuple(point) for point in front.points_SK[front.efficient_S].tolist()} == {(1.0, -1.0), (-1.0, 1.0)}
    # Neither end beats a random pick on both, so nothing is enclosed.
    assert front.hypervolume.value == 0.0
    assert front.oracle == 0.0
    # One of the two responses is best on both: (1, 1) against (-1, -1), 1 above the mean on each.
    better = np.array([[1.0, 1.0], [-1.0, -1.0]] * 2)
    front = front_of(("x", "y"), prompts, better, better, rng=np.random.default_rng(0))
    assert front is not None
    assert front.hypervolume.value == pytest.approx(1.0)
    # Heads that point the other way pick the worse one.
    front = front_of(("x", "y"), prompts, -better, better, rng=np.random.default_rng(0))
    assert front is not None
    assert front.hypervolume.value == 0.0
    assert front.oracle == pytest.approx(1.0)


def test_an_objective_that_nobody_rated_has_no_part_in_the_front() -> None:
    # Two prompts with two responses each; "z" was compared alone, so no rating says what choosing by it gets.
    prompts = [user("p"), user("p"), user("q"), user("q")]
    values = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    heads, ratings = np.column_stack([values, [0.0, 9.0, 0.0, 9.0]]), np.column_stack([values, np.full(4, np.nan)])
    with_z = front_of(("x", "y", "z"), prompts, heads, ratings, rng=np.random.default_rng(0))
    without = front_of(("x", "y"), prompts, values, values, rng=np.random.default_rng(0))
    assert with_z is not None
    assert without is not None
    assert with_z.names == ("x", "y")
    assert with_z.hypervolume == without.hypervolume


def test_no_front_without_a_choice() -> None:
    prompts = [user("a"), user("b"), user("c"), user("c")]
    values = np.array([[1.0, 2.0]] * 4)
    values[3, 1] = np.nan
    assert front_of(("x", "y"), prompts, values, values, rng=np.random.default_rng(0)) is None
    assert front_of(("x",), prompts, values[:, :1], values[:, :1], rng=np.random.default_rng(0)) is None


def test_planted_heads_are_told_from_each_other_and_from_length() -> None:
    study = study_objectives(Heads(), ratings(40, noise=0.5))
    one, two = study.heads
    # one: the number with noise of half its spread, Pearson 1 / sqrt(1.25) = 0.894; two: minus the number, exactly -1.
    assert one.with_ratings.value == pytest.approx(0.88, abs=0.06)
    assert one.with_ratings.low < 0.88 < one.with_ratings.high
    assert two.with_ratings.value == pytest.approx(-1.0)
    assert abs(one.beside["length"].value) < 0.25
    assert one.with_ratings.low > one.beside["length"].high
    assert study.between_KK[0, 0] == pytest.approx(1.0)
    assert abs(study.between_KK[0, 1]) < 0.25
    assert study.n_responses == 160
    assert study.n_prompts == 40


def test_what_is_not_rated_does_not_count() -> None:
    records = ratings(20)
    bare = [record.model_copy(update={"values": {"one": record.values["one"]}}) if n % 2 else record for n, record in enumerate(records)]
    study = study_objectives(Heads(), bare)
    assert study.heads[0].with_ratings.n == 80
    assert study.heads[1].with_ratings.n == 40
    whole = study_objectives(Heads(), records[::2])
    assert study.heads[1].with_ratings.value == pytest.approx(whole.heads[1].with_ratings.value)
    assert study.front is None or study.front.n_prompts == 20


def test_comparisons_are_judged_on_their_own_objective() -> None:
    pair = {"prompt": user("p"), "response_a": "2 1", "response_b": "1 2", "p_a": 1.0}
    records = [Preference(**pair, objective="one"), Preference(**pair, objective="two"), Preference(**pair)]
    records += [record.swap().model_copy(update={"prompt": user("q")}) for record in records]
    study = study_objectives(Heads(), records)
    # a has more of one (2 > 1) and more of two (-1 > -2).
    assert [head.accuracy.value for head in study.heads] == [1.0, 1.0]
    assert [head.accuracy.n for head in study.heads] == [2, 2]
    assert "fewer than three" in study.heads[0].with_ratings.method
    with pytest.raises(DataError, match="states one, two, and the records speak about three"):
        study_objectives(Heads(), [Rating(prompt=user("p"), response="1 2", values={"three": 1.0})])


def test_spearman_by_hand() -> None:
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6.
    assert spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([20.0, 10.0, 40.0, 30.0])) == pytest.approx(0.6)
    assert np.isnan(spearman(np.array([1.0, 2.0]), np.array([5.0, 5.0])))
    both = correlation_matrix(np.array([[1.0, 1.0], [2.0, np.nan], [3.0, 2.0]]))
    assert np.isnan(both[0, 1])
    assert both[0, 0] == pytest.approx(1.0)


def found() -> ObjectiveStudy:
    return study_objectives(Heads(), ratings(12, noise=0.3), beside={"single scalar": Heads()})


def test_the_report_shows_all_of_it(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    study = found()
    weights = weights_table(
        study.names,
        np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]),
        [user("long one"), user("short"), user("other")],
        ["web", "web", "chat"],
        by_prompt=True,
    )
    # web: (0.9 + 0.2) / 2; all: (0.9 + 0.2 + 0.4) / 3.
    assert weights.rows[0] == ["all prompts", 3, pytest.approx(0.5), pytest.approx(0.5)]
    assert weights.rows[1] == ["web", 2, pytest.approx(0.55), pytest.approx(0.45)]
    parts = sections(study, weights=weights, before={"one": {"before": 0.61, "after": 0.02}})
    assert [part.title for part in parts] == [
        "Each objective and what people said",
        "Length",
        "Objectives among each other",
        "How the objectives become one reward",
        "What can be had at once",
    ]
    path = write_objectives_report(tmp_path / "r.html", title="t", scorer="s", found=parts, verdict=verdict_lines(study), config={"a": 1})
    page = path.read_text(encoding="utf-8")
    for words in ("single scalar", "Pearson, before", "0.61", "most weight on two: short", "<svg", "above length"):
        assert words in page
    assert "hypervolume of the front" in render(study)
    assert set(study.to_dict()["heads"]) == {"one", "two"}


def test_an_objective_that_was_only_compared_is_printed_by_its_accuracy() -> None:
    pair = {"prompt": user("p"), "response_a": "2 1", "response_b": "1 2", "p_a": 1.0}
    records = [*ratings(6, noise=0.0), Preference(**pair, objective="two"), Preference(**{**pair, "prompt": user("q")}, objective="two")]
    rated = [row.model_copy(update={"values": {"one": row.values["one"]}}) if isinstance(row, Rating) else row for row in records]
    line = next(line for line in render(study_objectives(Heads(), rated)).splitlines() if line.strip().startswith("two"))
    assert "accuracy" in line
    assert "nan" not in line


def test_numbers_do_not_depend_on_the_order_of_the_records() -> None:
    records = ratings(15, noise=0.3)
    one, other = study_objectives(Heads(), records), study_objectives(Heads(), records[::-1])
    assert one.heads[0].with_ratings.value == pytest.approx(other.heads[0].with_ratings.value)
    assert one.front is not None
    assert other.front is not None
    assert one.front.hypervolume.value == pytest.approx(other.front.hypervolume.value)
