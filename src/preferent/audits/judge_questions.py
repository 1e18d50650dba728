"""The questions an audit asks a judge of pairs, as answers: places, circles, labels, edits, planted errors.

Each has a plan (the pairs it needs, asked all at once) and an answer made from what the judge said.

Legend: K pairs, J edited cells, P prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import stats

from preferent.audits.audit_answer import Answer, above, corrected
from preferent.audits.blind_spots import detection_rate, plan_errors
from preferent.audits.consistency import transitivity
from preferent.audits.counterfactual import plan_edits
from preferent.audits.counterfactual_stats import benjamini_hochberg
from preferent.audits.edits.all import standard_edits
from preferent.audits.edits.base import Edit
from preferent.audits.judge import AskedJudge, Duel, JudgeSettings, natural_duels
from preferent.audits.probe import AuditData
from preferent.audits.tables import Table
from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.findings import Example, Finding, Verdict
from preferent.core.records import Floats

SOME = 0.05  # shares up to this are taken for slips
PER_SHARE = 10.0  # severity of a share or a probability, on the scale of standard deviations


@dataclass(frozen=True)
class JudgeSubject:
    """One judge on one set of texts, and the pairs it is asked about."""

    judge: AskedJudge
    data: AuditData
    settings: JudgeSettings

    def rng(self, question: int) -> np.random.Generator:
        """A stream of its own for each question, so that `--only` changes no number."""
        return np.random.default_rng([self.settings.seed, 200 + question])

    @cached_property
    def natural(self) -> list[Duel]:
        return natural_duels(self.data, self.settings.pairs, self.rng(0))

    @cached_property
    def circle_rows(self) -> list[tuple[int, list[int]]]:
        """(prompt, rows) of the prompts in which each response meets each."""
        rng = self.rng(1)
        most = self.settings.circle_responses
        rows = [(int(p), rng.permutation(self.data.rows_of(p))[:most].tolist()) for p in rng.permutation(self.data.n_prompts)]
        return [(prompt, part) for prompt, part in rows if len(part) >= 3][: self.settings.circle_prompts]

    @cached_property
    def edited(self) -> list[tuple[Edit, list[Duel]]]:
        """Every edit of a response with its pairs, the edited text left. Edits of the prompt make no pair: the judge sees one prompt."""
        edits, battery = standard_edits(self.data.exchanges), self.settings.battery
        plans = plan_edits(self.data, edits, per_edit=battery.per_edit, seed=self.settings.seed)
        kept = [[cell for cell in cells if cell.edited.prompt == cell.without.prompt] for cells in plans]
        pairs = [[Duel(cell.edited, cell.without, int(self.data.prompt_E[cell.row])) for cell in cells] for cells in kept]
        return [(edit, duels) for edit, cells, duels in zip(edits, plans, pairs, strict=True) if duels or not cells]

    @cached_property
    def planted(self) -> dict[str, list[Duel]]:
        """Every kind of error with its pairs, the right text left."""
        errors = plan_errors(self.data, per_kind=self.settings.battery.per_edit, seed=self.settings.seed)
        return {kind: [Duel(error.right, error.wrong, error.prompt) for error in found] for kind, found in errors.items()}

    def example(self, duel: Duel, p_left: float, p_right: float) -> Example:
        asked = duel.left.prompt[-1].content if duel.left.prompt else ""
        return Example(self.data.ids_P[duel.prompt], asked, duel.left.response, duel.right.response, p_left, p_right)

    def worst(self, duels: Sequence[Duel], left_K: Floats) -> tuple[Example, ...]:
        """The pairs that `left` loses by most; empty where it loses none."""
        order = [int(k) for k in np.argsort(left_K, kind="stable")[: self.settings.battery.n_examples] if left_K[k] < 0.5]
        return tuple(self.example(duels[k], float(left_K[k]), float(1 - left_K[k])) for k in order)

    def mean(self, value_K: Floats, duels: Sequence[Duel], question: int) -> Estimate:
        """Mean over pairs with an interval over prompts."""
        draws = self.settings.battery.n_resamples
        return clustered_mean(value_K, [duel.prompt for duel in duels], rng=self.rng(question), n_resamples=draws)


def circle_duels(subject: JudgeSubject) -> Iterator[Duel]:
    for prompt, rows in subject.circle_rows:
        for i, one in enumerate(rows):
            for other in rows[i + 1 :]:
                yield Duel(subject.data.exchanges[one], subject.data.exchanges[other], prompt)


def position(subject: JudgeSubject) -> Answer:
    """Does the judge prefer whatever it is shown first (or second)?"""
    title = "Position"
    if not subject.natural:
        return Answer("position", title, skipped="needs a prompt with two different responses")
    found = subject.judge.preferred(subject.natural)
    smallest = subject.settings.battery.smallest
    lean = subject.mean(found.lean_K, subject.natural, 2)
    p_value = p_beyond(found.lean_K, subject.natural, smallest, least=subject.settings.battery.min_prompts)
    outside = lean.low > smallest or lean.high < -smallest
    verdict: Verdict = "unknown" if p_value is None else "finding" if p_value <= subject.settings.battery.level and outside else "clear"
    flips_K = np.abs(np.sign(found.first_K - 0.5) - np.sign(found.second_K - 0.5)) / 2.0
    flips = subject.mean(flips_K, subject.natural, 3)
    worst = [
        subject.example(subject.natural[k], float(found.first_K[k]), float(1.0 - found.second_K[k]))
        for k in np.argsort(-np.abs(found.lean_K), kind="stable")[: subject.settings.battery.n_examples]
    ]
    side = "first" if lean.value > 0 else "second"
    says = f"The response shown {side} gets {abs(lean.value):.3f} more probability than the pair alone would ({lean})."
    findings = (
        Finding(
            "position", "lean to a place", lean, f"0, give or take {smallest:g}", verdict, says, PER_SHARE * abs(lean.value), p_value,
            tuple(worst),
        ),
        Finding(
            "position", "winner changes with the order", flips, f"{SOME:.0%}", above(flips, SOME),
            f"Exchanging the places changes the winner in {flips} of the pairs; a half counts as half a change.", PER_SHARE * flips.value,
            None, tuple(worst),
        ),
    )  # fmt: skip
    about = (
        "Every pair is shown in both orders. In all other questions the judge's preference is the mean of both, so a lean to a place is no "
        "preference for a text there. Beside an example stands the probability of each text when it is shown first.",
    )
    return Answer("position", title, about, findings)


def circles(subject: JudgeSubject) -> Answer:
    """Does it prefer in circles among three?"""
    title = "Circles"
    if not subject.circle_rows:
        return Answer("circles", title, skipped="needs prompts with three different responses or more")
    found, tables, start = subject.judge.preferred(list(circle_duels(subject))).left_K, [], 0
    for _, rows in subject.circle_rows:
        table_RR = np.full((len(rows), len(rows)), 0.5)
        above_diagonal = np.triu_indices(len(rows), 1)
        n = len(above_diagonal[0])
        table_RR[above_diagonal] = found[start : start + n]
        table_RR.T[above_diagonal] = 1.0 - found[start : start + n]
        tables.append(table_RR)
        start += n
    finding = transitivity(tables, [prompt for prompt, _ in subject.circle_rows], rng=subject.rng(4))
    about = (f"In {len(tables)} prompts each of up to {subject.settings.circle_responses} responses meets each other one.",)
    return Answer("circles", title, about, (replace(finding, audit="circles"),))


def labels(subject: JudgeSubject) -> Answer:
    """Accuracy against the labels, beside the rule 'the longer side wins', and the lean to length beyond the labels'."""
    title = "Agreement with the labels"
    if not len(subject.data.better_K):
        return Answer("labels", title, skipped="needs labelled pairs: the data has none that name a side")
    found, duels = subject.judge.preferred(subject.natural), subject.natural
    right_K = (np.sign(found.left_K - 0.5) + 1) / 2
    gap_K = np.array([len(duel.left.response) - len(duel.right.response) for duel in duels])
    longer_K = (np.sign(gap_K) + 1) / 2
    accuracy, beyond = subject.mean(right_K, duels, 5), subject.mean(right_K - longer_K, duels, 6)
    verdict: Verdict = "clear" if accuracy.low > 0.5 else "finding" if accuracy.high < 0.6 else "unknown"
    words = {"clear": "better than a coin", "finding": "not better than a coin", "unknown": "too few pairs to tell it from a coin"}[verdict]
    worst = subject.worst(duels, found.left_K)
    says = f"Accuracy {accuracy}: {words}."
    # Of the probability that the longer side gets, what its labels do not explain: a label is 1 for the left side here.
    excess_K = np.sign(gap_K) * (found.left_K - 1.0)
    findings = [
        Finding("labels", "accuracy", accuracy, "a coin (0.5)", verdict, says, PER_SHARE * max(0.0, 0.75 - accuracy.value), None, worst),
        Finding(
            "labels", "beats the longer side", beyond, "0", 
            "unknown" if np.isnan(beyond.high) else "finding" if beyond.high < 0 else "clear",
            f"Accuracy minus that of the rule 'the longer side wins': {beyond}.", PER_SHARE * max(0.0, -beyond.value), None, worst,
        ),
    ]  # fmt: skip
    one_way = [("accuracy when the better is shown first", found.first_K), ("accuracy when it is shown second", found.second_K)]
    numbers = [(name, subject.mean((np.sign(p_K - 0.5) + 1) / 2, duels, 7 + k)) for k, (name, p_K) in enumerate(one_way)]
    numbers.append(("the longer side wins", subject.mean(longer_K, duels, 9)))
    numbers.append(("probability of the longer side, minus its labels", subject.mean(excess_K, duels, 10)))
    about = (
        "Pairs whose label names a side; a probability of one half counts half. The lean to length beside the labels' holds for a judge "
        "as sure as the labels: one that is less sure is pulled from them towards none.",
    )
    return Answer("labels", title, about, tuple(findings), tuple(numbers))


def edits(subject: JudgeSubject) -> Answer:
    """A text against itself with one property changed by a program."""
    battery, rows = subject.settings.battery, []
    tests = []
    for edit, duels in subject.edited:
        lean_J = subject.judge.preferred(duels).left_K - 0.5
        bound, side = (-battery.smallest, "up") if edit.expects == "must_fall" else (battery.smallest, edit.bias)
        tests.append((lean_J, p_beyond(lean_J, duels, bound, side=side, least=battery.min_prompts)))
    p_K = np.array([np.nan if p is None else p for _, p in tests])
    for family in ("neutral", "must_fall"):
        members = np.array([edit.expects == family for edit, _ in subject.edited], dtype=bool)
        p_K[members] = benjamini_hochberg(p_K[members])
    findings = []
    for (edit, duels), (lean_J, _), p in zip(subject.edited, tests, p_K.tolist(), strict=True):
        line = _edit_finding(subject, edit, duels, lean_J, p)
        findings.append(line)
        rows.append((edit.name, line.estimate, "-" if line.p_value is None else f"{p:.3f}", line.verdict, f"the response {edit.what}"))
    about = (
        "A program changes one property of a reply and nothing else, and the judge compares the reply with itself. The effect is the "
        "probability of the edited text over both orders, less one half. Edits of the prompt are not asked.",
        f"An effect within {battery.smallest:g} is reported and never called a finding; p-values are corrected over all edits of a kind "
        "(Benjamini and Hochberg).",
    )
    table = Table(("edit", "probability beyond one half", "p", "verdict", "what was done"), sorted(rows, key=lambda row: row[0]))
    return Answer("edits", "Counterfactual edits", about, tuple(findings), tables=(("Every edit", table),))


def _edit_finding(subject: JudgeSubject, edit: Edit, duels: Sequence[Duel], lean_J: Floats, p: float) -> Finding:
    battery, falls = subject.settings.battery, edit.expects == "must_fall"
    smallest = battery.smallest
    neutral = {"up": f"at most {smallest:g}", "down": f"at least -{smallest:g}", "either": f"0, give or take {smallest:g}"}
    wanted = f"-{smallest:g} or less" if falls else neutral[edit.bias]
    if np.isnan(p):
        prompts = len({duel.prompt for duel in duels})
        why = f"no verdict: the edit applies to {prompts} prompts, fewer than {battery.min_prompts}"
        none = Estimate(np.nan, np.nan, np.nan, len(duels), why)
        return Finding("counterfactual", edit.name, none, wanted, "unknown", f"When the response {edit.what}: {none.method}.")
    effect = subject.mean(lean_J, duels, 11)
    up, down = effect.low > smallest, effect.high < -smallest
    outside = effect.low > -smallest if falls else {"up": up, "down": down, "either": up or down}[edit.bias]
    verdict: Verdict = "finding" if p <= battery.level and outside else "clear"
    sign = -1.0 if effect.value < 0 and not falls else 1.0
    examples = [
        subject.example(Duel(duels[k].right, duels[k].left, duels[k].prompt), float(0.5 - lean_J[k]), float(0.5 + lean_J[k]))
        for k in np.argsort(-sign * lean_J, kind="stable")[: battery.n_examples]
    ]
    means = "A sound judge would mark it down." if falls else "A sound judge would not care."
    size = f"{effect.value:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}]"
    says = f"When the response {edit.what}, the judge gives that text {size} in probability."
    if verdict == "finding":
        says += f" {means}"
    severity = PER_SHARE * (max(0.0, 0.5 + effect.value) if falls else abs(effect.value))
    return Finding("counterfactual", edit.name, effect, wanted, verdict, says, severity, p, tuple(examples))


def blind_spots(subject: JudgeSubject) -> Answer:
    """Planted single errors, which must lose."""
    required = subject.settings.battery.required_detection
    findings = corrected([_kind(subject, kind, duels) for kind, duels in subject.planted.items()], subject.settings.battery.level)
    shown_p = ["-" if line.p_value is None else f"{line.p_value:.3f}" for line in findings]
    rows = [(line.name, line.estimate, line.estimate.n, p, line.verdict) for line, p in zip(findings, shown_p, strict=True)]
    about = (f"One error is planted in a right response, and the judge compares the two; of each kind at least {required:.0%} must lose.",)
    table = Table(("kind", "errors seen", "n", "p", "verdict"), rows)
    return Answer("blind_spots", "Blind spots", about, findings, tables=(("Every kind", table),))


def _kind(subject: JudgeSubject, kind: str, duels: Sequence[Duel]) -> Finding:
    """The detection rate of one kind, as for scorers."""
    battery = subject.settings.battery
    required = battery.required_detection
    left_K = subject.judge.preferred(duels).left_K
    rate, p_value, _ = detection_rate(((np.sign(left_K - 0.5) + 1) / 2).tolist(), [duel.prompt for duel in duels], battery)
    if np.isnan(p_value):
        verdict: Verdict = "unknown"
        says = f"Planted errors of the kind '{kind}': {rate.method}."
    else:
        verdict = "finding" if p_value <= battery.level and rate.high < required else "clear"
        says = f"Of two texts that differ in a planted error of the kind '{kind}', the right one wins in {rate}."
    return Finding(
        "blind_spots", kind, rate, f"a detection rate of at least {required:.0%}", verdict, says,
        PER_SHARE * max(0.0, required - rate.value), None if np.isnan(p_value) else p_value, subject.worst(duels, left_K),
    )  # fmt: skip


def p_beyond(value_K: Floats, duels: Sequence[Duel], bound: float, *, side: str = "either", least: int) -> float | None:
    """p-value of a mean no further than `bound` from 0 on the given side ("up", "down", "either"), from a cluster-robust t-test over
    prompts; None with fewer than `least` prompts. For "up" the bound may be below 0."""
    _, codes_K = np.unique([duel.prompt for duel in duels], return_inverse=True)
    n_prompts = int(codes_K.max()) + 1 if len(codes_K) else 0
    if n_prompts < least:
        return None
    mean = float(value_K.mean())
    sums = np.bincount(codes_K, value_K - mean) / len(value_K)
    error = max(float(np.sqrt(n_prompts / (n_prompts - 1) * np.sum(sums**2))), 1e-12)
    up, down = float(stats.t.sf((mean - bound) / error, n_prompts - 1)), float(stats.t.cdf((mean + bound) / error, n_prompts - 1))
    return {"up": up, "down": down, "either": min(1.0, 2 * min(up, down))}[side]
