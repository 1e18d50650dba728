"""The questions that need labels, as answers: accuracy and calibration, length and style, groups of people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from preferent.audits import plots
from preferent.audits.audit_answer import Answer, Picture, corrected, normal_p
from preferent.audits.audit_subject import Subject
from preferent.audits.figures import MUTED, SCORER, draw, whiskers
from preferent.audits.group_agreement import agreement_by_group, group_findings
from preferent.audits.length_style import (
    ENOUGH,
    FEATURES,
    Controlled,
    accuracy_by_length_gap,
    best_temperature,
    excess,
    feature_weights,
    lean,
    length_controlled_accuracy,
    length_curve,
    style_features,
)
from preferent.audits.metrics import probability
from preferent.audits.resample import no_estimate
from preferent.audits.tables import Table
from preferent.audits.words import TITLES
from preferent.core.errors import DataError
from preferent.core.estimates import Estimate
from preferent.core.findings import Example, Finding, Verdict
from preferent.core.records import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_LABELS = "needs labelled pairs: the data has none that name a side"
SMALL_EXCESS = 0.02  # in probability: less than this is taken for nothing
N_EXAMPLES = 3


def calibration(subject: Subject) -> Answer:
    """Accuracy, its baselines, and whether the probabilities hold."""
    title = "Accuracy and calibration"
    if not subject.n_decided:
        return Answer("calibration", title, skipped=NO_LABELS)
    found = subject.evaluation
    numbers = found.numbers
    accuracy, longer = numbers["accuracy"], numbers["minus_longer"]
    findings = [_against_coin(subject, accuracy), _against_longer(subject, longer)]
    about = ["Equal rewards count one half; label ties are left out of accuracy."]
    pictures: list[Picture] = []
    shown = ["accuracy", "longer_side", "minus_longer", "matched_accuracy"]
    if subject.by_construction:
        about.append("The probes' labels are by construction, so no probability is asked for here: give data to check calibration.")
    else:
        findings.append(_calibrated(subject))
        about.append(f"Probabilities are sigmoid(margin / {subject.temperature:.3g}); ECE is held against what chance alone would show.")
        shown += ["annotator", "scorer_on_annotator", "minus_annotator", "nll", "brier", "ece", "ece_noise"]
        caption = "Points on the dashed line are calibrated; bars are 95 % intervals."
        pictures.append(Picture("Reliability", lambda: plots.reliability_plot(found.reliability), caption))
    pictures.append(Picture("Margins", lambda: plots.margins_plot(found.margins), "Left of 0 the scorer is wrong."))
    kept = tuple((TITLES[name], numbers[name]) for name in shown if name in numbers)
    return Answer("calibration", title, tuple(about), tuple(findings), kept, pictures=tuple(pictures))


def _against_coin(subject: Subject, accuracy: Estimate) -> Finding:
    if np.isnan(accuracy.low):
        verdict: Verdict = "unknown"
    elif accuracy.low > 0.5:
        verdict = "clear"
    else:  # with few pairs a good scorer may look like a coin
        verdict = "finding" if accuracy.high < 0.6 else "unknown"
    words = {"clear": "better than a coin", "finding": "not better than a coin", "unknown": "too few pairs to tell it from a coin"}[verdict]
    severity = max(0.0, 10.0 * (0.75 - accuracy.value)) if verdict == "finding" else 0.0
    examples = _mistakes(subject)
    return Finding(
        "calibration", "accuracy", accuracy, "a coin (0.5)", verdict, f"Accuracy {accuracy}: {words}.", severity, examples=examples
    )


def _against_longer(subject: Subject, difference: Estimate) -> Finding:
    worse = not np.isnan(difference.high) and difference.high < 0
    verdict: Verdict = "unknown" if np.isnan(difference.low) else "finding" if worse else "clear"
    words = "worse than" if worse else "better than" if difference.low > 0 else "not told from"
    return Finding(
        "calibration", "beats the longer side", difference, "0", verdict,
        f"On these pairs it is {words} the rule 'the longer side wins': difference {difference}.",
        10.0 * max(0.0, -difference.value), normal_p(difference), _mistakes(subject),
    )  # fmt: skip


def _calibrated(subject: Subject) -> Finding:
    calibration = subject.evaluation.reliability
    ece, noise = calibration.ece, calibration.noise
    off = not np.isnan(noise.high) and ece.value > noise.high
    verdict: Verdict = "unknown" if np.isnan(noise.high) else "finding" if off else "clear"
    t = best_temperature(subject.margin_N, subject.p_N)
    advice = f" On these pairs a temperature of {t:.3g} (now {subject.temperature:.3g}) has the lowest NLL." if off else ""
    words = "more than chance would show" if off else "what a perfectly calibrated scorer would show"
    summary = f"Expected calibration error {ece}, {words} here (up to {noise.high:.3f}).{advice}"
    severity = 10.0 * max(0.0, ece.value - noise.value) if off else 0.0
    compared = f"what chance shows (up to {noise.high:.3f})"
    return Finding("calibration", "calibration", ece, compared, verdict, summary, severity, examples=_mistakes(subject))


def _mistakes(subject: Subject) -> tuple[Example, ...]:
    """The mistakes the scorer is most sure of: left is what the labels prefer."""
    return tuple(
        Example(
            row.id or "", row.prompt[-1].content if row.prompt else "", row.preferred, row.other, row.reward_preferred, row.reward_other
        )
        for row in subject.evaluation.mistakes[:N_EXAMPLES]
    )


def length_style(subject: Subject) -> Answer:
    """Length and looks, against the labels."""
    title = "Length and style"
    if not subject.n_decided:
        return Answer("length_style", title, skipped=NO_LABELS)
    rng = subject.rng(2)
    texts = [exchange.response for exchange in subject.data.exchanges]
    features_EF = style_features(texts)
    weights = feature_weights(subject.reward_E, features_EF, subject.data.prompt_E, rng=rng)
    curve = length_curve(subject.reward_E, features_EF, subject.data.prompt_E, rng=rng)
    findings, rows = _excesses(subject, rng)
    by_gap = accuracy_by_length_gap(subject.margin_N, subject.p_N, subject.chars_N2, subject.weights_N, subject.codes_N, rng=rng)
    controlled = length_controlled_accuracy(subject.margin_N, subject.p_N, subject.chars_N2, subject.weights_N, subject.codes_N, rng=rng)
    tables = (
        ("Leaning to more of a feature", Table(("feature", "pairs that differ", "labels", "scorer", "excess"), rows, _EXCESS_NOTE)),
        ("What the reward pays for, within prompts", Table(("feature", "SD of reward per SD"), list(zip(FEATURES, weights, strict=True)))),
        ("Accuracy by length of the preferred side", Table(("", "accuracy", "n"), [(name, e, e.n) for name, e in by_gap.items() if e.n])),
    )
    caption = "Reward against length within prompts, with the part that other features explain taken out. Bars: 95 % intervals."
    pictures = (Picture("Partial dependence on length", lambda: _curve_plot(curve), caption),) if len(curve) > 1 else ()
    return Answer(
        "length_style",
        title,
        (
            "A slope on length is no fault by itself: longer replies may be better. The findings are about more than the labels pay: on "
            "pairs that differ in a feature, the probability the scorer gives to the side with more of it, minus the labels'.",
            "Accuracy that falls when the shorter side is right can come from noisy labels alone; it is shown without a verdict.",
        ),
        (*findings, _beyond_length(subject, controlled)),
        (
            *_picks(subject),
            ("accuracy", controlled.plain),
            ("accuracy when length cannot help", controlled.controlled),
            ("lost with it", controlled.lost),
        ),
        tables,
        pictures,
    )


def _picks(subject: Subject) -> tuple[tuple[str, Estimate], ...]:
    numbers = subject.evaluation.numbers
    return tuple((TITLES[name], numbers[name]) for name in ("labels_pick_longer", "picks_longer"))


def _beyond_length(subject: Subject, found: Controlled) -> Finding:
    """Whether anything is left once length cannot help; only asked of a scorer that is better than a coin to begin with."""
    left = found.controlled
    verdict: Verdict = "unknown"
    if not np.isnan(left.low):
        verdict = "clear" if left.low > 0.5 else "finding" if found.plain.low > 0.5 and left.high < 0.6 else "unknown"
    known = {"clear": "it knows more than length", "finding": "beyond length it shows nothing"}
    words = known.get(verdict, "too few pairs to tell")
    summary = f"With pairs weighted so that length cannot help, accuracy goes from {found.plain} to {left}: {words}."
    severity = 10.0 * max(0.0, found.lost.value) if verdict == "finding" else 0.0
    examples = _leaning(subject, subject.chars_N2[:, 0] - subject.chars_N2[:, 1])
    return Finding("length_style", "beyond length", left, "a coin (0.5)", verdict, summary, severity, examples=examples)


_EXCESS_NOTE = (
    "Labels and scorer: probability above one half for the side with more. The scorer's probabilities are refitted to these pairs first."
)


def _excesses(subject: Subject, rng: np.random.Generator) -> tuple[tuple[Finding, ...], list[tuple[Any, ...]]]:
    """One finding per feature, and the rows of the table; corrected over the features."""
    sides = [style_features([getattr(pair, name) for pair in subject.data.preferences]) for name in ("response_a", "response_b")]
    difference_NF = sides[0] - sides[1]
    findings, rows = [], []
    for name, difference_N in zip(FEATURES, difference_NF.T, strict=True):
        n = int(np.count_nonzero(difference_N))
        if n < ENOUGH:
            none = no_estimate(f"fewer than {ENOUGH} pairs differ in it", n)
            findings.append(Finding("length_style", name, none, "the labels", "unknown", f"Lean to more {name}: {none.method}."))
            rows.append((name, n, "-", "-", none.method))
            continue
        beyond = excess(difference_N, subject.margin_N, subject.p_N, subject.weights_N, subject.codes_N, rng=rng)
        labels, scorer = lean(difference_N, subject.margin_N, subject.p_N, subject.weights_N, subject.codes_N, rng=rng)
        findings.append(_excess_finding(subject, name, difference_N, beyond, labels, scorer))
        rows.append((name, n, labels, scorer, beyond))
    return corrected(findings), rows


def _excess_finding(subject: Subject, name: str, difference_N: Floats, beyond: Estimate, labels: Estimate, scorer: Estimate) -> Finding:
    """More than the labels, on the same side of none: noise alone pulls a scorer from the labels' lean towards none, and not further."""
    up, down = beyond.low > SMALL_EXCESS and scorer.low > 0, beyond.high < -SMALL_EXCESS and scorer.high < 0
    verdict: Verdict = "unknown" if np.isnan(beyond.low) else "finding" if up or down else "clear"
    more = ("the shorter text" if down else "the longer text") if name == "length" else f"{'fewer' if down else 'more'} {name}"
    if verdict == "finding":
        summary = (
            f"Leans to the side with {more} more than the labels do: by {abs(beyond.value):.3f} in probability "
            f"(labels {labels.value:+.3f}, scorer {scorer.value:+.3f})."
        )
    else:
        summary = f"{name.capitalize()}: the scorer's lean {scorer} beside the labels' {labels}; the excess {beyond} shows no bias."
    against = SMALL_EXCESS * np.sign(beyond.value)
    p_value = normal_p(beyond, float(against)) if (up or down) else 1.0
    examples = _leaning(subject, -difference_N if down else difference_N)
    return Finding(
        "length_style", name, beyond, f"the labels, give or take {SMALL_EXCESS:g}", verdict, summary,
        10.0 * abs(beyond.value) if verdict == "finding" else 0.0, p_value, examples,
    )  # fmt: skip


def _leaning(subject: Subject, difference_N: Floats) -> tuple[Example, ...]:
    """Pairs on which the side with more gets most beyond its label; left is the side the labels prefer."""
    q_N = probability(subject.margin_N, best_temperature(subject.margin_N, subject.p_N))
    beyond_N = (q_N - subject.p_N) * np.sign(difference_N)
    examples, seen = [], set()
    for k in np.argsort(-beyond_N, kind="stable"):
        pair, code = subject.data.preferences[int(k)], int(subject.codes_N[k])
        if beyond_N[k] <= 0 or len(examples) == N_EXAMPLES or code in seen:
            continue
        seen.add(code)
        reward = subject.scorer.score(pair.exchanges()).reward
        more_b = difference_N[k] < 0
        texts = (pair.response_a, pair.response_b) if more_b else (pair.response_b, pair.response_a)
        rewards = (reward[0], reward[1]) if more_b else (reward[1], reward[0])
        prompt = pair.prompt[-1].content if pair.prompt else ""
        examples.append(Example(pair.id or "", prompt, *texts, float(rewards[0]), float(rewards[1])))
    return tuple(examples)


def _against_group(subject: Subject, group: str) -> tuple[Example, ...]:
    """Pairs on which the scorer is surest against this group's votes; left is what the group prefers."""
    votes = subject.votes
    assert votes is not None
    own_V = np.array([name == group for name in votes.group_V])
    n = len(subject.margin_N)
    lean_N = np.bincount(votes.pair_V[own_V], votes.label_V[own_V] - 0.5, n)
    against_N = -np.sign(lean_N) * subject.margin_N
    examples = []
    for k in np.argsort(-against_N, kind="stable")[:N_EXAMPLES]:
        if against_N[k] > 0:
            pair = subject.data.preferences[int(k)] if lean_N[k] > 0 else subject.data.preferences[int(k)].swap()
            reward = subject.scorer.score(pair.exchanges()).reward.tolist()
            asked = pair.prompt[-1].content if pair.prompt else ""
            examples.append(Example(pair.id or "", asked, pair.response_a, pair.response_b, reward[0], reward[1]))
    return tuple(examples)


def _curve_plot(curve: Sequence[tuple[float, Estimate]]) -> str:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        axes.plot([x for x, _ in curve], [row.value for _, row in curve], color=SCORER, linewidth=1.2)
        for x, row in curve:
            whiskers(axes, x, row, colour=SCORER, across=False)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="length, as a multiple of the prompt's usual reply", ylabel="reward (SD within prompts)")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.3g}")

    return draw("length curve", "Reward against length within prompts", paint, height=3.0)


def groups(subject: Subject) -> Answer:
    """Agreement with people by group."""
    title = "Agreement with people by group"
    if subject.votes is None:
        return Answer("groups", title, skipped="needs votes of people with names: --judgments FILE")
    votes = subject.votes
    try:
        rows = agreement_by_group(subject.margin_N, votes.pair_V, votes.label_V, votes.group_V, subject.codes_N, rng=subject.rng(6))
    except DataError as error:
        return Answer("groups", title, skipped=error.message)
    findings = [replace(line, examples=_against_group(subject, line.name.removeprefix("group "))) for line in group_findings(rows)]
    table = Table(
        ("group", "votes", "scorer agrees", "its own votes agree", "scorer: minus all others"),
        [(row.name, row.n_votes, row.scorer, row.itself, row.minus_others) for row in rows],
    )
    return Answer("groups", title, (votes.how,), corrected(findings), tables=(("Every group", table),))
