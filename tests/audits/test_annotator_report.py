"""The annotator report: planted faults are named, what the data cannot support is left out with a reason, and texts stay texts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from preferent.annotators.majority import majority
from preferent.annotators.pair_ends import Pair, paired_votes
from preferent.annotators.table import VoteTable
from preferent.audits.annotator_graph import coverage, disagreements
from preferent.audits.annotator_people import confusions, fit_traits, length_lean
from preferent.audits.annotator_report import annotator_verdict, render_annotator_report, write_annotator_report
from preferent.audits.annotator_study import AnnotatorStudy, StudySettings, study_annotators
from preferent.cli.output import emit_json
from preferent.core.errors import DataError, ExistsError
from preferent.core.records import user

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "</div></style><style>body{display:none}</style>",
    "$\\frac{1}{0}$ & <b>\u202e\x00\x1b[31m",
)  # fmt: skip
LABELS = ("a", "b", "tie")


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend((key, value or "") for key, value in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def table_of(rows: list[dict[str, Any]]) -> VoteTable:
    return VoteTable.from_columns({key: [row[key] for row in rows] for key in rows[0]}, labels=LABELS)


def crowd(seed: int = 0, *, n_responses: int = 24, names: tuple[str, ...] = ()) -> tuple[list[dict[str, Any]], dict[str, Pair]]:
    """Twelve honest annotators, one who says the opposite, one who always takes the side shown first, and one who votes in a second.
    Every third pair of the responses, each judged by eight of them; longer names for texts are random."""
    rng = np.random.default_rng(seed)
    score_R = rng.normal(0, 1.6, n_responses)
    people = [*(f"p{k:02d}" for k in range(12)), "liar", "lefty", "hasty"]
    rows, pairs = [], {}
    every = [(i, j) for i in range(n_responses) for j in range(i + 1, n_responses)][::3]
    for i, j in every:
        item = f"c{i}-{j}"
        words = [f"{names[k % len(names)]} {k}" if names else f"text {k}" for k in (i, j)]
        pairs[item] = Pair(f"r{i}", f"r{j}", user("which?"), *words)
        for who in rng.choice(people, 8, replace=False).tolist():
            first = "a" if rng.random() < 0.5 else "b"
            right = rng.random() < 1 / (1 + np.exp(-abs(score_R[i] - score_R[j]) - 0.8))
            better = "a" if score_R[i] > score_R[j] else "b"
            choice = better if right != (who == "liar") else {"a": "b", "b": "a"}[better]
            choice = first if who == "lefty" else "tie" if rng.random() < 0.05 else choice
            seconds = 1.0 if who == "hasty" else float(rng.uniform(15, 40))
            rows.append({"item": item, "annotator": who, "label": choice, "shown_first": first, "seconds": seconds})
    return rows, pairs


@pytest.fixture(scope="module")
def study() -> AnnotatorStudy:
    rows, pairs = crowd(names=HOSTILE)
    for row in rows:
        row["annotator"] = {"p00": HOSTILE[0]}.get(row["annotator"], row["annotator"])
        row["source"] = HOSTILE[1] if row["item"].endswith("3") else "plain"
    said = {next(iter(pairs)): [("p01", "a", HOSTILE[2])]} | {name: [("p01", "a", HOSTILE[2])] for name in pairs}
    return study_annotators(table_of(rows), pairs, rationales=said)


@pytest.fixture(scope="module")
def page(study: AnnotatorStudy) -> str:
    return render_annotator_report(title=HOSTILE[4], study=study)


def test_planted_faults_are_named_with_their_evidence_and_nobody_else_is(study: AnnotatorStudy) -> None:
    kinds = {str(person.name): {flag.partition(":")[0] for flag in person.flags} for person in study.flagged}
    assert "adversary" in kinds["liar"]
    assert "left" in kinds["lefty"]
    assert "too fast" in kinds["hasty"]
    assert set(kinds) == {"liar", "lefty", "hasty"}
    person = {str(person.name): person for person in study.people}
    assert person["hasty"].seconds == 1.0
    first = person["lefty"].first
    assert first is not None
    assert (first.value, first.high) == (1.0, 1.0)
    assert person["liar"].traits["slope"].high < 0 < person["p01"].traits["slope"].low
    assert person["lefty"].traits["position"].low > 1
    reliability = [p.reliability.value for p in study.people if p.reliability is not None and not p.flags]
    assert min(reliability) > 0.6
    assert any("3 of 15 annotators are flagged" in line for line in annotator_verdict(study))


def test_every_section_is_there_and_every_number_is_json(study: AnnotatorStudy, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(Page(page).texts)
    for heading in ("Agreement", "Pairs of annotators", "Reliability and volume", "Everybody", "Votes by label", "How many groups",
                    "Worst disagreements", "Coverage of the comparison graph", "Method and notes"):  # fmt: skip
        assert heading in text, heading
    emit_json(study.to_dict())
    told = json.loads(capsys.readouterr().out)
    assert told["annotators"] == 15
    assert told["votes"] == sum(person["votes"] for person in told["people"])
    assert set(told["agreement_by_source"]) == {HOSTILE[1], "plain"}
    assert told["coverage"]["components"] == [told["coverage"]["responses"]]
    assert told["skipped"] == {}


def test_hostile_texts_make_no_tags_and_no_attributes(page: str) -> None:
    found = Page(page)
    assert found.tags.count("style") - 1 == found.tags.count("svg")
    assert not {"script", "img", "iframe", "object", "link"} & set(found.tags)
    for key, value in found.attributes:
        assert not key.startswith("on"), (key, value)
        assert key != "src"
        if key.endswith("href"):
            assert value.startswith("#")
    ids = [value for key, value in found.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    text = "".join(found.texts)
    assert all(line in text for line in ("<script>alert(1)</script>", "{{ 7 * 7 }}", "onerror=alert(1)"))
    policy = next(value for _, value in found.attributes if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows, pairs = crowd(seed=1, n_responses=9)
    shuffled = [rows[k] for k in np.random.default_rng(0).permutation(len(rows))]
    settings = StudySettings(groups=0)
    one, two = (str(study_annotators(table_of(these), pairs, settings).to_dict()) for these in (rows, shuffled))
    assert one == two


def test_two_planted_groups_are_found_and_what_they_lose_is_told() -> None:
    """Half of the people love what the others hate, on responses 0 to 4; on the other five all agree."""
    rng = np.random.default_rng(5)
    taste = np.stack([np.r_[2.5, 2, 0, -2, -2.5, 3, 1.5, 0, -1.5, -3], np.r_[-2.5, -2, 0, 2, 2.5, 3, 1.5, 0, -1.5, -3]])
    rows, pairs = [], {}
    for i in range(10):
        for j in range(i + 1, 10):
            pairs[f"c{i}{j}"] = Pair(f"r{i}", f"r{j}")
            for person in range(20):
                p = 1 / (1 + np.exp(taste[person % 2, j] - taste[person % 2, i]))
                rows.append({"item": f"c{i}{j}", "annotator": f"p{person:02d}", "label": "a" if rng.random() < p else "b"})
    study = study_annotators(table_of(rows), pairs)
    assert study.groups is not None
    mixture = study.groups.mixture
    assert mixture.n_groups == 2
    assert np.abs(mixture.share_K - 0.5).max() < 0.05
    for conflict in study.groups.conflicts:
        i, j = int(conflict.pair.a[1:]), int(conflict.pair.b[1:])
        assert (taste[0, i] - taste[0, j]) * (taste[1, i] - taste[1, j]) < 0
        one, two = (conflict.p_a[k] for k in conflict.groups)
        assert (one.value - 0.5) * (two.value - 0.5) < 0
    assert len(study.groups.conflicts) == 10
    rules = {rule for rule, *_ in study.groups.losses}
    assert rules == {"utilitarian", "borda", "worst-off"}
    assert max(against for _, _, _, against, _ in study.groups.losses) > 0.1
    groups = {int(np.argmax(person.group)) for person in study.people if int(str(person.name)[1:]) % 2 == 0}
    assert len(groups) == 1
    assert [one.title for one in study.confusions] == ["all annotators", "group 1", "group 2"]
    text = " ".join(Page(render_annotator_report(title="t", study=study)).texts)
    assert "want opposite sides" in text
    assert "What each group loses under each rule" in text


def test_what_the_data_lack_is_said() -> None:
    alone = study_annotators(table_of([{"item": f"c{k}", "annotator": "ann", "label": "ab"[k % 2]} for k in range(6)]))
    assert {"reliability", "confusion", "groups", "slopes", "left and right", "too fast", "disagreements"} <= set(alone.skipped)
    assert np.isnan(alone.agreement["krippendorff_alpha"].value)
    assert "cannot be told" in annotator_verdict(alone)[0]
    text = " ".join(Page(render_annotator_report(title="t", study=alone)).texts)
    assert text.count("Left out:") >= 6
    assert "every comparison stands alone" in text
    rows, pairs = crowd(n_responses=8)
    bare = [{key: row[key] for key in ("item", "annotator", "label")} for row in rows]
    unnamed = {name: Pair(pair.a, pair.b) for name, pair in pairs.items()}
    study = study_annotators(table_of(bare), unnamed, StudySettings(groups=0))
    assert set(study.skipped) >= {"groups", "texts", "length bias", "left and right", "too fast"}
    assert study.skipped["groups"] == "not asked for"
    with pytest.raises(DataError, match="labels a and b"):
        study_annotators(VoteTable.from_arrays(["x", "x"], ["p", "q"], ["yes", "no"]))


def test_coverage_by_hand() -> None:
    # r1 > r2 > r3 in a chain, r4 > r5 apart; r2 has two opponents, r1 and r4 never lost, r3 and r5 never won; r4 and r5 have one vote.
    ends = {"one": ("r1", "r2"), "two": ("r2", "r3"), "three": ("r4", "r5")}
    rows = [{"item": name, "annotator": who, "label": "a"} for name in ("one", "two") for who in ("p", "q")]
    rows.append({"item": "three", "annotator": "p", "label": "a"})
    table = table_of(rows)
    told = coverage(table, paired_votes(table, {name: Pair(*both) for name, both in ends.items()})).to_dict()
    assert told["components"] == [3, 2]
    assert told["components_without_order"] == 2
    assert told["opponents_per_response"] == {"1": 4, "2": 1}
    assert told["votes_per_comparison"] == {"1": 1, "2": 2}
    assert told["undefeated"] == {"count": 2, "first": ["r1", "r4"]}
    assert told["winless"] == {"count": 2, "first": ["r3", "r5"]}
    assert told["one_vote"] == {"count": 2, "first": ["r4", "r5"]}


def test_the_most_surely_split_comes_first() -> None:
    votes = {"even5": "aaaaabbbbb", "even1": "ab", "lopsided": "aaaaaaaaab", "agreed": "aaaaaa"}
    rows = [{"item": item, "annotator": f"p{k}", "label": one} for item, given in votes.items() for k, one in enumerate(given)]
    table = table_of(rows)
    found = disagreements(table, majority(table), {})
    assert [row.comparison for row in found] == ["even5", "even1", "lopsided"]  # lower ends .237, .095, .018
    assert found[0].counts == {"a": 5, "b": 5}
    assert found[2].against.value == pytest.approx(0.1)


def test_confusion_by_hand() -> None:
    # The result is sure of its labels: c1 and c2 are a, c3 is b. Two people; p errs on c2, so of the 4 votes on label a 3 are right.
    rows = [{"item": item, "annotator": who, "label": "b" if (item, who) in {("c2", "p"), ("c3", "p"), ("c3", "q")} else "a"}
            for item in ("c1", "c2", "c3") for who in ("p", "q")]  # fmt: skip
    table = VoteTable.from_columns({key: [row[key] for row in rows] for key in rows[0]}, labels=("a", "b"))
    sure = replace(majority(table), p_IL=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    one, only_p = confusions(table, sure, [("all", np.ones(2)), ("p", np.array([1.0, 0.0]))])
    np.testing.assert_allclose(one.share_KL, [[0.75, 0.25], [0.0, 1.0]])
    np.testing.assert_allclose(only_p.share_KL, [[0.5, 0.5], [0.0, 1.0]])
    assert np.isnan(only_p.low_KL).all()  # one person has no interval over people
    # Per person: p has 1 of 2 right, q 2 of 2; residuals -.5 and +.5, so the standard error is sqrt(.5 * 2) / 4 = .25.
    assert one.high_KL[0, 0] == pytest.approx(1.0)
    assert one.low_KL[0, 0] == pytest.approx(0.75 - 1.959964 * 0.25)


def test_a_lean_to_shorter_responses_is_that_of_one_person_not_of_the_crowd() -> None:
    rng = np.random.default_rng(2)
    length_R = np.exp(rng.normal(4, 0.8, 16)).astype(int) + 1
    score_R = rng.normal(0, 1, 16) + 0.8 * (np.log(length_R) - 4)  # longer responses are better, and that is no bias
    rows, pairs = [], {}
    for i in range(16):
        for j in range(i + 1, 16):
            pairs[f"c{i}-{j}"] = Pair(f"r{i}", f"r{j}", None, "x" * length_R[i], "x" * length_R[j])
            for who in range(8):
                logit = score_R[i] - score_R[j] + (-2.0 if who == 0 else 0.0) * np.log(length_R[i] / length_R[j])
                rows.append({"item": f"c{i}-{j}", "annotator": f"p{who}", "label": "a" if rng.random() < 1 / (1 + np.exp(-logit)) else "b"})
    paired = paired_votes(table_of(rows), pairs, lengths=True)
    fit = fit_traits(paired.votes)
    assert fit is not None
    lean = length_lean(fit, paired.votes)
    assert lean is not None
    value_A, sd_A = lean
    # Planted: -2 for the first and 0 for the others, so -1.75 and 0.25 against the crowd's mean; the prior shrinks, the sign must be sure.
    assert -1.75 - 2 * sd_A[0] < value_A[0] < -4 * sd_A[0]
    assert (np.abs(value_A[1:] - 0.25) < 3 * sd_A[1:]).all()


def test_written_whole_never_over_another_and_without_matplotlib(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, pairs = crowd(n_responses=7)
    study = study_annotators(table_of(rows), pairs, StudySettings(groups=1))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = write_annotator_report(tmp_path / "deep" / "report.html", title="one", study=study)
    found = Page(path.read_text(encoding="utf-8"))
    assert "svg" not in found.tags
    assert "The plots are left out" in " ".join(found.texts)
    with pytest.raises(ExistsError):
        write_annotator_report(path, title="two", study=study)
    assert "All annotators were taken as one group" in " ".join(found.texts)
