"""`preferent aggregate --rule`: preferences of several groups of annotators, made into one number by a rule that was named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from preferent.annotators.social_choice import RULES
from preferent.cli.output import emit, emit_json, talk

LEAST = 1e-3  # a group of which less than this of a member has voted has said nothing


def refuse_rules(options: Mapping[str, Any]) -> int | None:
    """How many groups (None: to be found); ConfigError for options that do not go together."""
    from preferent.core.errors import ConfigError

    groups = options["groups"]
    if options["rule"] is None:
        raise ConfigError(
            f"--groups {groups}: several groups are made into labels by a rule, and none is named",
            hint="; ".join(f"--rule {rule}: {meaning}" for rule, meaning in RULES.items()),
        )
    if options["model"] != "auto":
        raise ConfigError(f"--rule goes with the groups' own model, not with --model {options['model']}", hint="leave out --model")
    if groups is None or groups == "auto":
        return None
    if not groups.isascii() or not groups.isdigit() or int(groups) < 1:
        raise ConfigError(f"--groups {groups!r}, allowed are auto and whole numbers from 1")
    return int(groups)


def by_groups(table: Any, texts: Any, output: Path, options: Mapping[str, Any]) -> None:
    """Fit the groups, write preferences under the rule, and say what each group loses."""
    from preferent.annotators.group_rules import rule_labels
    from preferent.annotators.mixture import MixtureSettings, fit_mixture
    from preferent.audits.annotator_groups import why_no_groups
    from preferent.cli.comparison_rows import with_comparisons
    from preferent.core.errors import ConfigError, DataError
    from preferent.data.write import write_jsonl

    fixed = refuse_rules(options)
    votes, ends_I2 = _votes(table)
    if why := why_no_groups(votes, fixed):
        raise DataError(f"--rule: {why}")
    if options["responses"] is not None and table.sides is None:
        raise ConfigError("--responses: the judgments do not say which responses they compare", hint="give the texts or the ids of both")
    mixture = fit_mixture(votes, MixtureSettings(groups=fixed), seed=options["seed"])
    p_KI = _chances(mixture, ends_I2, votes.n_items)
    found = rule_labels(p_KI, options["rule"], mixture.share_K, rng=np.random.default_rng(options["seed"]))
    force, rows = options["force"], list(_rows(table, found, mixture))
    if options["responses"] is not None:
        write_jsonl(options["responses"], _responses(table, texts, mixture), force=force)
    comparisons = options["comparisons"]
    write_jsonl(output, rows if comparisons is None else with_comparisons(iter(rows), comparisons), force=force)
    if options["annotators"] is not None:
        write_jsonl(options["annotators"], _people(table, mixture), force=force)
    written = [path for path in (output, options["responses"], options["annotators"]) if path is not None]
    _tell(found, mixture, table, (len(rows), written), as_json=options["as_json"])


def _votes(table: Any) -> tuple[Any, Any]:
    """(votes on pairs, numbers of the responses a and b of each comparison)."""
    from preferent.annotators.graph_models import pairs_of
    from preferent.annotators.pair_ends import paired_votes

    if table.sides is None:
        table.one_objective()
        paired = paired_votes(table, {})
        return paired.votes, paired.ends_I2
    return pairs_of(table), np.stack([table.sides.a_I, table.sides.b_I], axis=1).astype(np.int64)


def _chances(mixture: Any, ends_I2: Any, n: int) -> Any:
    """p_a of each group on each comparison, shape (K, I), with intervals."""
    from preferent.annotators.bradley_terry import Banded

    key_I = ends_I2.min(axis=1) * n + ends_I2.max(axis=1)
    at_I, turned_I = np.searchsorted(mixture.lo_P * n + mixture.hi_P, key_I), ends_I2[:, 0] > ends_I2[:, 1]
    value, low, high = (end[:, at_I] for end in (mixture.p_a.value, mixture.p_a.low, mixture.p_a.high))
    ends = ((value, value), (low, high), (high, low))
    return Banded(*(np.where(turned_I, 1.0 - other, own) for own, other in ends))


def _rows(table: Any, found: Any, mixture: Any) -> Iterator[dict[str, Any]]:
    """One row for each comparison; under "per-group" one for each group that voted on it, which weighs as much as its votes."""
    from preferent.annotators.group_labels import group_labels

    each = found.rule == "per-group"
    mass_IK = group_labels(table, mixture.membership_AK).mass_IK if each else None
    value, low, high = (np.atleast_2d(end).tolist() for end in (found.p_a.value, found.p_a.low, found.p_a.high))
    for row, item in enumerate(table.items.tolist()):
        for k in range(len(value)):
            fields = {"comparison_id": item}
            if mass_IK is not None:
                if mass_IK[row, k] < LEAST:
                    continue
                fields |= {"objective": f"group {k + 1}", "weight": float(mass_IK[row, k])}
            p_a = min(max(round(value[k][row], 6), low[k][row]), high[k][row])
            yield fields | {"p_a": p_a, "low": low[k][row], "high": high[k][row], "n_judgments": int(table.votes_I[row])}


def _people(table: Any, mixture: Any) -> Iterator[dict[str, Any]]:
    for name, votes, chances in zip(table.annotators.tolist(), table.votes_A.tolist(), mixture.membership_AK.tolist(), strict=True):
        yield {"annotator_id": name, "n_judgments": votes, "groups": {f"group {k + 1}": chance for k, chance in enumerate(chances)}}


def _responses(table: Any, texts: Any, mixture: Any) -> Iterator[dict[str, Any]]:
    """Scores in each group, and mean and variance over the groups by their shares."""
    from preferent.annotators.hidden_context import across_groups

    over = across_groups(mixture.scores.value, mixture.share_K)
    for row, name in enumerate(table.sides.responses.tolist()):
        fields: dict[str, Any] = {"response_id": name}
        if texts is not None and name in texts.texts:
            fields["prompt"], fields["response"] = texts.texts[name]
        ends = {"score": mixture.scores.value, "low": mixture.scores.low, "high": mixture.scores.high}
        groups = [
            {"objective": f"group {k + 1}", **{key: float(end[k, row]) for key, end in ends.items()}} for k in range(mixture.n_groups)
        ]
        told = {"mean": float(over.mean_I[row]), "variance": float(over.sd_I[row] ** 2), "groups": groups}
        yield fields | told | {"n_judgments": int(mixture.graph.votes_I[row]), "component": int(mixture.graph.component_I[row])}


def _tell(found: Any, mixture: Any, table: Any, written: tuple[int, list[Path]], *, as_json: bool) -> None:
    rows, paths = written
    shares = _shares(mixture, table)
    notes = list(dict.fromkeys((*table.notes, *mixture.notes)))
    if found.rule == "per-group" and rows < mixture.n_groups * table.n_items:
        left = mixture.n_groups * table.n_items - rows
        notes.append(f"{left:,} rows are left out: no member of the group voted on the comparison")
    if as_json:
        tests = [{"groups": t.groups, "gain": t.gain.to_dict(), "p_value": t.p_value, "accepted": t.accepted} for t in mixture.tests]
        groups = [{**loss.to_dict(), "share": share.to_dict()} for loss, share in zip(found.losses, shares, strict=True)]
        emit_json({"rule": found.rule, "meaning": found.meaning, "groups": groups, "tests": tests, "conflicts": len(mixture.conflicts),
                   "rows": rows, "converged": mixture.converged, "iterations": mixture.iterations,
                   "log_likelihood": mixture.log_likelihood, "intervals": mixture.intervals, "notes": notes, "written": paths})  # fmt: skip
        return
    k = mixture.n_groups
    emit(f"{table.n_items:,} comparisons, {k} group{'s' if k > 1 else ''} of annotators{'' if mixture.converged else ' (NOT CONVERGED)'}, "
         f"rule {found.rule}: {rows:,} rows: {paths[0]}")  # fmt: skip
    emit(f"{found.rule}: {found.meaning}")
    for loss, share in zip(found.losses, shares, strict=True):
        lost = "keeps its own labels" if found.rule == "per-group" else f"regret {loss.regret}, overruled on {loss.against} of comparisons"
        emit(f"  group {loss.group + 1}, share of annotators {share}: {lost}")
    if found.rule != "per-group" and k > 1:
        talk("regret: chance that a member prefers the group's own choice less that for the rule's; intervals over comparisons, the "
             "groups' preferences taken as known")  # fmt: skip
    for note in notes:
        talk(f"note: {note}")


def _shares(mixture: Any, table: Any) -> list[Any]:
    from preferent.annotators.labels import wilson
    from preferent.core.estimates import Estimate

    n = table.n_annotators
    low, high = wilson(mixture.share_K, np.full(mixture.n_groups, float(n)))
    ends = zip(mixture.share_K.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Estimate(*three, n, "Wilson, memberships taken as known") for three in ends]
