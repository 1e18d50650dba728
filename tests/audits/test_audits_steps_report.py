"""The page on a step scorer: its numbers by hand, hostile texts that stay texts, words that claim no more than the intervals allow."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from preferent.audits import steps_plots
from preferent.audits.page import safe_svg
from preferent.audits.steps import Threshold
from preferent.audits.steps_best_of_n import MAJORITY, ORACLE, RANDOM
from preferent.audits.steps_evaluate import StepEvaluation, evaluate_steps
from preferent.audits.steps_report import StepPage, render_steps_page, step_verdict, write_steps_report
from preferent.audits.steps_study import Solved, StepStudy, study_steps
from preferent.core.errors import ConfigError, ExistsError
from preferent.core.records import StepLabels, user
from preferent.core.step_rewards import Aggregation

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "</div></style><style>body{display:none}</style>",
    "$\\frac{1}{0}$ & <b>\u202e\x00\x1b[31m",
    "\ud800 lone surrogate",
)  # fmt: skip
ALLOWED_TAGS = set(
    """html head meta title style body main header h1 h2 h3 p section nav a div table thead tbody tr th td figure figcaption article ol li
    span details summary svg g defs path use text tspan rect clippath""".split()  # noqa: SIM905
)
RIGHT, SEEN, MISSED, LATE, ALARM = "right", "seen", "missed", "late", "alarm"
# kind -> (labels, scores). At a threshold of 0.5 RIGHT and SEEN are hits, the others are misses.
KINDS: dict[str, tuple[tuple[float | None, ...], tuple[float, ...]]] = {
    RIGHT: ((1.0, 1.0, 1.0), (0.9, 0.9, 0.9)),
    SEEN: ((1.0, 0.0, None), (0.9, 0.1, 0.9)),
    MISSED: ((1.0, 0.0, None), (0.9, 0.95, 0.9)),
    LATE: ((1.0, 1.0, 0.0, 0.0), (0.9, 0.9, 0.9, 0.1)),
    ALARM: ((1.0, 1.0, 1.0), (0.9, 0.9, 0.05)),
}


class Page(HTMLParser):
    """What a browser would see: tags, attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend((tag, key, value or "") for key, value in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def solution(kind: str, problem: int, source: str | None = None, texts: tuple[str, ...] = ("one", "two", "three")) -> StepLabels:
    labels = KINDS[kind][0]
    steps = tuple(f"{texts[t % len(texts)]} {'x' * (3 * t)}" for t in range(len(labels)))
    return StepLabels(prompt=user(f"{texts[0]} problem {problem}"), steps=steps, labels=labels, source=source, id=f"{kind}/{problem}")


def solved(counts: dict[str, int], *, per_problem: bool = False, **given: Any) -> Solved:
    """So many solutions of each kind; `per_problem`: the k-th of each kind is one problem's, else every solution is a problem."""
    kinds = [kind for kind, n in counts.items() for _ in range(n)]
    problems = [k for n in counts.values() for k in range(n)] if per_problem else list(range(len(kinds)))
    records = [solution(kind, problem, **given) for kind, problem in zip(kinds, problems, strict=True)]
    return Solved(records, [np.array(KINDS[kind][1]) for kind in kinds], problems)


def evaluated(found: Solved) -> StepEvaluation:
    """At the threshold 0.5; rules chosen on the same solutions."""
    both = (found.records, found.scores)
    return evaluate_steps(both, both, found.problems, rng=np.random.default_rng(0), threshold=Threshold(0.5, float("nan")), n_resamples=200)


def studied(counts: dict[str, int], **given: Any) -> StepStudy:
    found = solved(counts, **given)
    return study_steps(found, evaluated(found))


def test_hits_by_place_by_hand():
    """12 right of which 4 get an alarm: 8 of 12. 20 first errors at step 2, 15 seen. 5 at step 3: too few for a number."""
    study = studied({RIGHT: 8, ALARM: 4, SEEN: 15, MISSED: 5, LATE: 5})
    assert [(row.name, row.n) for row in study.by_place] == [("no error", 12), ("step 2", 20), ("step 3", 5)]
    none, second, third = study.by_place
    assert none.scorer.value == pytest.approx(8 / 12)
    assert second.scorer.value == pytest.approx(15 / 20)
    assert second.scorer.low < 0.75 < second.scorer.high
    assert np.isnan(third.scorer.value)
    assert "fewer than 10" in third.scorer.method
    assert [(row.name, row.n) for row in study.by_count] == [("3 to 4 steps", 37)]
    assert study.by_count[0].scorer.value == pytest.approx(23 / 37)
    assert study.by_source == (), "one source is no comparison"


def test_hits_by_source():
    easy, hard = solved({RIGHT: 10, SEEN: 10}, source="easy"), solved({ALARM: 10, MISSED: 10}, source="hard")
    found = Solved([*easy.records, *hard.records], [*easy.scores, *hard.scores], list(range(40)))
    rows = study_steps(found, evaluated(found)).by_source
    assert [(row.name, row.n, row.scorer.value) for row in rows] == [("easy", 20, 1.0), ("hard", 20, 0.0)]
    assert 0.0 < rows[1].scorer.high < 0.3, "0 of 20 is not certainty"


def test_reliability_by_hand():
    """Labelled steps: SEEN has scores (0.9, 0.1) with labels (1, 0), RIGHT 0.9 with 1. Gaps of 0.1 everywhere: ECE 0.1."""
    found = studied({RIGHT: 10, SEEN: 10}).reliability
    assert found is not None
    assert found.ece.value == pytest.approx(0.1)
    assert sum(row.n for row in found.bins) == 10 * 3 + 10 * 2
    assert {round(row.confidence, 6): row.observed.value for row in found.bins} == {0.1: 0.0, 0.9: 1.0}


def test_best_of_two_by_hand():
    """Each problem has a right solution (all 0.9) and one with an error that is seen: every rule but the last picks the right one. The
    last step scores 0.9 in both: a tie, 1/2, as at random and in a vote of two answers."""
    found = solved({RIGHT: 12, SEEN: 12}, per_problem=True)
    found = Solved(found.records, found.scores, found.problems, ["7"] * 12 + ["8"] * 12)
    best = study_steps(found, evaluated(found), stored=Aggregation("weighted", {"minimum": 1.0})).best_of_n
    assert best is not None
    assert (best.ns, best.n_problems, best.voted) == ((1, 2), 12, True)
    at_two = {name: row[-1].value for name, row in best.rows.items()}
    assert {at_two[name] for name in ("product", "minimum", "mean", "weighted", ORACLE)} == {1.0}
    assert {at_two[name] for name in ("last", RANDOM, MAJORITY)} == {0.5}
    assert best.rows[ORACLE][-1].low < 1.0, "12 of 12 is not certainty"
    mute = Solved(found.records, found.scores, found.problems, ["7"] * 5 + [None] * 19)
    silent = study_steps(mute, evaluated(mute)).best_of_n
    assert silent is not None
    assert not silent.voted
    assert not any("vote" in name for name in silent.rows)


def test_aggregations_by_hand_and_what_is_missing():
    rows = {row.how: row for row in studied({RIGHT: 12, SEEN: 12}, per_problem=True).aggregations}
    assert rows["minimum"].within_problem.value == 1.0
    assert rows["minimum"].overall.value == 1.0
    assert rows["last"].within_problem.value == 0.5
    assert np.isnan(rows["weighted"].overall.value), "two sets of weights have no common scale"
    study = studied({RIGHT: 9, SEEN: 9}, per_problem=True)
    assert study.best_of_n is None
    assert "fewer than 10 problems" in study.no_best_of_n


def test_the_worst_are_the_furthest_apart_and_one_of_a_problem():
    """MISSED has 0.95 on a wrong step, LATE 0.9; ALARM has 0.05 on a right one. SEEN and RIGHT have nothing beyond 1/2."""
    study = studied({MISSED: 2, LATE: 3, ALARM: 7, RIGHT: 3, SEEN: 3})
    assert [row.record.id and row.record.id.split("/")[0] for row in study.missed] == [MISSED, MISSED, LATE, LATE, LATE]
    assert [row.step for row in study.missed] == [1, 1, 2, 2, 2]
    assert len(study.alarms) == 5, "shown are 5 of 7"
    assert {(row.step, row.predicted, row.true) for row in study.alarms} == {(2, 2, -1)}
    twice = studied({MISSED: 3, LATE: 3, RIGHT: 3}, per_problem=True)
    assert len(twice.missed) == 3, "each problem shows its worst solution only"
    assert studied({RIGHT: 3, SEEN: 3}).missed == ()


def test_a_study_needs_what_fits():
    found = solved({RIGHT: 2, SEEN: 2})
    with pytest.raises(ConfigError, match="one score for each step"):
        Solved(found.records, [score[:2] for score in found.scores], found.problems)
    with pytest.raises(ConfigError, match="one problem"):
        Solved(found.records, found.scores, [0])


# ---- words ----


def test_the_verdict_claims_what_the_intervals_allow():
    good = " ".join(step_verdict(evaluated(solved({RIGHT: 60, SEEN: 60}))))
    assert good.startswith("Beats the best constant")
    assert "is above the best constant" in good
    assert "none in 1.000" in good
    bad = step_verdict(evaluated(solved({RIGHT: 6, MISSED: 6, ALARM: 6})))
    assert bad[0] == "Does not beat the best constant or the best length rule."
    assert re.search(r"First-error F1 0\.000 .* (is below|is not distinguishable)", bad[2])


def test_one_problem_has_no_interval_and_the_verdict_says_so():
    found = solved({RIGHT: 3, SEEN: 3})
    found = Solved(found.records, found.scores, [0] * 6)
    assert "cannot be compared with the best constant" in " ".join(step_verdict(evaluated(found)))


# ---- the page ----

CURVES = [{"step": k, "loss": 0.7 - 0.1 * k, "learning_rate": 1e-4} for k in range(4)]


def page_of(counts: dict[str, int] | None = None, title: str = "t") -> StepPage:
    found = solved(counts or {RIGHT: 12, SEEN: 12, ALARM: 4, MISSED: 4, LATE: 4}, per_problem=True, texts=HOSTILE, source=HOSTILE[1])
    evaluation = evaluated(found)
    return StepPage(title, HOSTILE[2], evaluation, study_steps(found, evaluation), [("measured on", HOSTILE[0])], "product")


@pytest.fixture(scope="module")
def page() -> str:
    ledger = {"rows": 9, "refused": {HOSTILE[1]: 3}, "refusals": [{"where": "f:1", "reason": text} for text in HOSTILE]}
    return render_steps_page(page_of(title=HOSTILE[0]), ledger=ledger, curves=CURVES, config={HOSTILE[0]: {"k": HOSTILE[1]}})


def test_hostile_texts_make_no_tags_no_attributes_and_no_requests(page: str):
    seen = Page(page)
    assert set(seen.tags) <= ALLOWED_TAGS
    for tag, key, value in seen.attributes:
        assert not key.startswith("on"), (tag, key, value)
        assert key != "src"
        if key.endswith("href"):
            assert value.startswith("#"), (tag, value)
        if key == "style" and tag == "span":
            assert re.fullmatch(r"width:\d+\.\d%", value)
    text = "".join(seen.texts)
    for hostile in HOSTILE[:5]:
        assert hostile in text
    policy = next(value for _, key, value in seen.attributes if key == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    outside = re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)
    assert "http://" not in outside
    assert "https://" not in outside


def test_every_link_leads_somewhere_and_the_sections_are_there(page: str):
    seen = Page(page)
    ids = [value for _, key, value in seen.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, key, value in seen.attributes if key.endswith("href")} <= set(ids)
    text = " ".join(seen.texts)
    for words in ("Numbers", "Plots", "Reliability of step scores", "By place of the first error", "By number of steps", "Aggregations",
                  "Best of n", "Errors that it does not see", "Right steps that it takes for errors", "Training", "Data", "Configuration",
                  "threshold of the scorer", "oracle"):  # fmt: skip
        assert words in text, words


def test_a_solution_is_shown_step_by_step():
    """One MISSED solution among 4 problems: scores 0.9, 0.95, 0.9; the second step is the first error, the third is not labelled."""
    html = render_steps_page(page_of({RIGHT: 2, SEEN: 2, MISSED: 1}))
    shown = html[html.index("Errors that it does not see") : html.index("Right steps that it takes")]
    assert re.findall(r"width:([\d.]+)%", shown) == ["90.0", "95.0", "90.0"]
    assert re.findall(r'class="badge \w+">([^<]+)<', shown) == ["right", "first error", "not labelled"]
    assert "step 2 scores 0.950, labelled wrong; first error: step 2 by the labels, none by the scorer" in shown
    assert shown.count("step worst") == 1


def test_a_long_solution_is_cut_around_its_worst_step():
    labels = tuple(0.0 if t == 50 else 1.0 for t in range(100))
    record = StepLabels(prompt=user("p"), steps=tuple(f"step text {t}" for t in range(100)), labels=labels)
    rest = solved({RIGHT: 4, SEEN: 4})
    found = Solved([record, *rest.records], [np.full(100, 0.9), *rest.scores], ["long", *rest.problems])
    evaluation = evaluated(found)
    html = render_steps_page(StepPage("t", "s", evaluation, study_steps(found, evaluation)))
    assert "70 of 100 steps are not shown; the first shown is step 36." in html
    assert "step text 50" in html
    assert "step text 34" not in html


def test_written_whole_never_over_another_and_the_same_each_time(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = tmp_path / "deep" / "report.html"
    assert write_steps_report(path, page_of()) == path
    first = path.read_bytes()
    assert b"The plots are left out" in first
    assert b"<svg" not in first
    with pytest.raises(ExistsError, match="exists"):
        write_steps_report(path, page_of(title="two"))
    write_steps_report(path, page_of(), force=True)
    assert path.read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_figures_are_ours_and_deterministic():
    page = page_of()
    best, reliability = page.study.best_of_n, page.study.reliability
    assert best is not None
    assert reliability is not None
    painted = [
        steps_plots.beside_plot(page.evaluation),
        steps_plots.step_reliability_plot(reliability),
        steps_plots.hits_plot(page.study.by_place, HOSTILE[1]),
        steps_plots.best_of_n_plot(best),
    ]
    for svg in painted:
        safe_svg(svg, "own")
        assert ElementTree.fromstring(svg).get("role") == "img"
    assert painted[0] == steps_plots.beside_plot(page.evaluation)
