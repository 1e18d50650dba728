"""The demo, small: everything it promises is there, and a head that is the truth is said to be the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from preferent.cli import demo, demo_heads
from preferent.cli.main import preferent
from preferent.core.records import Scores
from preferent.data.ratings import check_all
from preferent.lab import demo_data
from preferent.lab.replies import OBJECTIVES, GoldScorer

SIZES = demo_data.DemoSizes(n_prompts=16, n_held_out=8, pool_prompts=3, pool_responses=40)
make = demo_data.make_demo_data


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("demo") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_data, "make_demo_data", lambda seed: make(seed, SIZES))
        patch.setattr(demo, "SETTINGS", {**demo.SETTINGS, "epochs": "1"})
        patch.setattr(demo, "NS", (1, 4, 16, 32))
        result = CliRunner().invoke(preferent, ["demo", "-o", str(folder), "--json"], standalone_mode=False, catch_exceptions=False)
    return folder, json.loads(result.stdout)


def test_every_objective_has_a_head_and_stands_beside_the_truth(ran: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = ran
    card = json.loads((folder / "preferent.json").read_text(encoding="utf-8"))
    names = [item["name"] for item in card["heads"]["objectives"]]
    assert sorted(names) == sorted([*OBJECTIVES, "preferred"])
    # What people preferred is the reward; the objectives stand beside it.
    weights = dict(zip(names, card["heads"]["combination"]["weights"], strict=True))
    assert weights == {**dict.fromkeys(OBJECTIVES, 0.0), "preferred": 1.0}
    assert set(printed["truth"]["heads"]) == set(OBJECTIVES)
    assert set(printed["objectives"]["heads"]) == {*OBJECTIVES, "preferred"}
    for name in OBJECTIVES:
        row = printed["truth"]["heads"][name]
        assert row["head"]["low"] <= row["head"]["value"] <= row["head"]["high"]
        # One rating: 4 units of truth, noise of 0.6, so it ranks almost as the truth does.
        assert row["rater"]["value"] > 0.6
    assert json.loads((folder / "truth.json").read_text(encoding="utf-8")) == printed["truth"]


def test_the_report_has_the_truth_first_and_then_the_objectives(ran: tuple[Path, dict[str, Any]]) -> None:
    page = (ran[0] / "report.html").read_text(encoding="utf-8")
    titles = [
        "The learned reward beside the true one",
        "Best of n",
        "Each head beside the true objective",
        "Each objective and what people said",
        "Objectives among each other",
        "How the objectives become one reward",
        "What can be had at once",
    ]
    places = [page.index(title) for title in titles]
    assert places == sorted(places)


def test_what_the_simulated_people_said_lies_beside_the_run(ran: tuple[Path, dict[str, Any]]) -> None:
    beside = ran[0].with_name("run-data")
    data = make(0, SIZES)
    for name, rows in (("ratings", data.ratings), ("held_out_ratings", data.held_out_ratings)):
        read = [row.model_copy(update={"id": None}) for row in check_all(beside / f"{name}.jsonl").records()]
        assert read == rows
    assert len((beside / "judgments.jsonl").read_text(encoding="utf-8").splitlines()) == len(data.judgments)


def test_heads_that_are_the_truth_and_heads_that_are_its_opposite() -> None:
    class Turned:
        """The true objectives, every second one turned round."""

        name = "turned"

        def score(self, exchanges: Any) -> Scores:
            truth = GoldScorer().score(exchanges)
            signs = {name: 1.0 if k % 2 == 0 else -1.0 for k, name in enumerate(OBJECTIVES)}
            return Scores(truth.reward, objectives={name: signs[name] * value for name, value in truth.objectives.items()})

    data = make(0, SIZES)
    found = demo_heads.compare_heads(Turned(), data, seed=0)  # pyright: ignore[reportArgumentType]
    assert [head.head.value for head in found] == pytest.approx([1.0, -1.0, 1.0, -1.0, 1.0])
    assert [head.name for head in found] == list(OBJECTIVES)
    # Equals in the truth: a perfect head with an order of its own among them falls short of 1.
    assert all(0.7 < head.best.value < 0.99 for head in found)
    for head in found:
        assert np.sign(head.head.value) * head.head_with_length.value == pytest.approx(head.length.value)
        assert head.head.n == len({side.response for pair in data.held_out for side in pair.exchanges()})
    assert "safety" in demo_heads.render(found)
