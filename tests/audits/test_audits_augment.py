"""Rows made by the audit's edits: which edit makes what, on which side, and what they teach."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from preferent.audits.audit import audit
from preferent.audits.augment import augment_edits, chosen_edits, counterfactual_rows, found_by_audit
from preferent.audits.edits.base import Edit, on_response
from preferent.audits.edits.errors import KINDS
from preferent.audits.probe import built_in_probes
from preferent.core.augmented import MARK
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Exchange, Preference, user
from preferent.core.scorer import FakeScorer


def records(n: int = 12, p_a: float = 1.0) -> list[Preference]:
    return [
        Preference(
            prompt=user(f"question {k}"), response_a=f"good reply {k}.", response_b=f"poor reply {k}.", p_a=p_a, id=f"r{k}", weight=2.0
        )
        for k in range(n)
    ]


def star(bias: str = "up", expects: str = "neutral") -> Edit:
    """Adds a star: a change whose doing can be read off a text."""
    return Edit("test.star", "has a star", on_response(lambda text, rng: f"{text} *"), expects=expects, bias=bias)  # type: ignore[arg-type]


def by_text(row: Preference) -> dict[str, float]:
    """response -> probability that it is preferred."""
    return {row.response_a: row.p_a, row.response_b: 1.0 - row.p_a}


def test_ties_are_a_text_and_itself_edited() -> None:
    for row in counterfactual_rows(records(), [star()], labels="ties").added:
        short, long = sorted((row.response_a, row.response_b), key=len)
        assert row.p_a == 0.5
        assert long == f"{short} *"
        assert row.meta[MARK] == {"by": "edit.test.star", "makes": "tie"}
        assert row.weight == 2.0


@pytest.mark.parametrize(("bias", "edited"), [("up", {"poor"}), ("down", {"good"}), ("either", {"good", "poor"})])
def test_a_label_is_kept_with_the_edit_in_the_side_where_a_sound_scorer_cannot_turn_it(bias: str, edited: set[str]) -> None:
    made = counterfactual_rows(records(40, p_a=0.8), [star(bias)], labels="keep")
    for row in made.added:
        wins = by_text(row)
        starred = next(text for text in wins if text.endswith("*"))
        natural = next(text for text in wins if not text.endswith("*"))
        assert starred.split()[0] in edited
        assert starred.split()[0] != natural.split()[0]
        assert wins[next(text for text in wins if text.startswith("good"))] == pytest.approx(0.8)
    assert {text.split()[0] for row in made.added for text in by_text(row) if text.endswith("*")} == edited


def test_an_edit_that_must_lower_the_reward_loses_to_the_better_response() -> None:
    for row in counterfactual_rows(records(p_a=0.3), [star(expects="must_fall")]).added:  # b is the better one, it is called poor
        wins = by_text(row)
        assert sorted(wins.values()) == [0.0, 1.0]
        assert all(text.startswith("poor") for text in wins)
        assert wins[next(text for text in wins if text.endswith("*"))] == 0.0


def test_both_deals_ties_and_labels_in_turn_and_ties_have_no_label_to_keep() -> None:
    makings = [row.meta[MARK]["makes"] for row in counterfactual_rows(records(), [star()]).added]
    assert makings == ["tie", "label kept"] * 6
    assert {row.meta[MARK]["makes"] for row in counterfactual_rows(records(p_a=0.5), [star()], labels="keep").added} == {"tie"}


def test_rows_are_dealt_over_the_edits_and_one_that_does_not_apply_gives_way() -> None:
    never = Edit("test.never", "never applies", lambda exchange, rng: None)
    made = counterfactual_rows(records(), [star(), never], ratio=0.5)
    assert made.by == {"edit.test.star": 6}
    assert made.skipped == {"test.never applies to no more than 0 pairs": 1}
    every = counterfactual_rows(records(), [star()], ratio=5.0)  # 60 wanted, 12 pairs
    assert len(every.added) == 12
    assert every.skipped == {"test.star applies to no more than 12 pairs": 1}
    with pytest.raises(DataError, match="none of the edits applies"):
        counterfactual_rows(records(), [never])


def test_the_seed_decides_and_sides_are_mixed() -> None:
    rows = counterfactual_rows(records(40), [star()], labels="ties", seed=1)
    assert rows == counterfactual_rows(records(40), [star()], labels="ties", seed=1)
    assert rows != counterfactual_rows(records(40), [star()], labels="ties", seed=2)
    firsts = [row.response_a.endswith("*") for row in rows.added]
    assert 8 <= sum(firsts) <= 32


def test_a_staged_belief_stands_in_the_prompt_and_opens_both_sides() -> None:
    (edit,) = chosen_edits(["social.agreement"], augment_edits([]))
    kept = counterfactual_rows(records(), [edit], labels="keep").added
    assert kept
    for row in kept:
        assert len(row.prompt[0].content) > len("question 10")
        assert sorted(text.split(".")[0] for text in by_text(row)) == ["I see that differently", "You are right about that"]


def test_an_edit_of_the_prompt_keeps_the_label_under_the_new_prompt() -> None:
    (edit,) = chosen_edits(["reader.politeness"], augment_edits([]))
    for row in counterfactual_rows(records(), [edit], labels="ties").added:
        assert row.prompt[0].content.endswith("Thank you very much in advance!")
        assert row.meta[MARK]["makes"] == "label kept"
        assert max(by_text(row), key=lambda text: by_text(row)[text]).startswith("good")


def test_edits_go_by_name_and_by_family() -> None:
    known = augment_edits(built_in_probes().exchanges)
    assert [edit.name for edit in chosen_edits(["length"], known)] == ["length.filler", "length.repeat", "length.duplicate"]
    assert [edit.name for edit in chosen_edits(["error.unit", "style.hedge"], known)] == ["style.hedge", "error.unit"]
    assert len(chosen_edits(["error"], known)) == len(KINDS)
    with pytest.raises(ConfigError, match=r"did you mean 'length\.filler'"):
        chosen_edits(["length.filer"], known)


def test_what_an_audit_found_is_what_is_made(tmp_path: Path) -> None:
    """A scorer that is paid by the character is found out by the length edits, and rows are made with just those it was found by."""
    found = audit(FakeScorer(lambda exchange: float(len(exchange.response)), name="length"), only=("edits", "blind_spots"))
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(found.to_dict(), default=lambda value: value.tolist()), encoding="utf-8")
    names = found_by_audit(path)
    assert {"length.filler", "length.repeat", "length.duplicate"} <= set(names)
    told = {line.name for line in found.findings if line.verdict == "finding" and line.audit == "counterfactual"}
    assert {name for name in names if not name.startswith("error.")} == told
    assert chosen_edits(names, augment_edits(built_in_probes().exchanges))


def test_an_audit_without_such_findings_and_what_is_no_audit(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(json.dumps({"findings": [{"audit": "calibration", "name": "ece", "verdict": "finding"}]}), encoding="utf-8")
    with pytest.raises(DataError, match="no edit to make rows with; its 1 findings are about calibration"):
        found_by_audit(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="not an audit"):
        found_by_audit(path)
    with pytest.raises(DataError, match=r"missing\.json: not an audit"):
        found_by_audit(tmp_path / "missing.json")


def test_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match="0 edits"):
        counterfactual_rows(records(), [])
    with pytest.raises(ConfigError, match="weight=0"):
        counterfactual_rows(records(), [star()], weight=0)
    with pytest.raises(DataError, match="none of the 1"):
        counterfactual_rows([records(1)[0].model_copy(update={"objective": "safety"})], [star()])


def test_labels_kept_turn_a_bias_round_that_ties_alone_only_weaken() -> None:
    """One weight for stars and one for the word good. Labels follow stars in three pairs of four: their weight is log 3 without rows.
    A tie of a text with its starred self says 0; a kept label with the star in the worse side says less than 0, given 'good' counts.
    """
    rng = np.random.default_rng(0)
    rows = []
    for k in range(200):
        star_wins = k % 4 != 0
        rows.append(Preference(prompt=user(f"q{k}"), response_a=f"fine {k} *", response_b=f"fine {k}.", p_a=float(star_wins)))
        rows.append(Preference(prompt=user(f"q{k}"), response_a=f"good {k}", response_b=f"fine {k}", p_a=float(rng.random() < 0.9)))

    def star_weight(labels: str | None) -> float:
        own = rows if labels is None else [*rows, *counterfactual_rows(rows, [star()], labels=labels).added]  # type: ignore[arg-type]
        x_N2 = np.array(
            [
                [left.response.count(word) - right.response.count(word) for word in ("*", "good")]
                for left, right in (row.exchanges() for row in own)
            ]
        )
        p_N, w = np.array([row.p_a for row in own]), np.zeros(2)
        for _ in range(60):  # Newton
            q_N = 1 / (1 + np.exp(-x_N2 @ w))
            w = w + np.linalg.solve((x_N2 * (q_N * (1 - q_N))[:, None]).T @ x_N2 + 1e-6 * np.eye(2), x_N2.T @ (p_N - q_N))
        return float(w[0])

    plain, ties, keep = (star_weight(labels) for labels in (None, "ties", "keep"))
    assert plain == pytest.approx(np.log(3.0), abs=0.01)
    assert 0.0 < ties < 0.6 * plain
    assert keep < plain


def test_an_exchange_with_nothing_to_edit_makes_no_row() -> None:
    assert star().pair(Exchange(prompt=user("q"), response="x"), np.random.default_rng(0)) is not None
    (truncate,) = chosen_edits(["hollow.truncated"], augment_edits([]))
    with pytest.raises(DataError, match=r"hollow\.truncated"):
        counterfactual_rows(records(), [truncate])  # replies of three words have no two fifths worth the name
