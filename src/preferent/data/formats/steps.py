"""Step data as lists: our own shape, TRL's stepwise shape, ProcessBench, and a problem with the place of its first error.

- `native`: `prompt, steps, labels`, with `source, id, meta`; other keys are refused, so that a misspelt one is not ignored;
- `trl_stepwise`: `prompt, completions, labels` as the trainer that TRL dropped in 1.16 took them: true, false or a number;
- `processbench` (Zheng et al. 2024, arXiv 2412.06559): `problem, steps, label`, the place of the first error or -1;
- `first_error`: `problem` (or `prompt`), `steps`, and `first_error`, `labels`, or both; both must agree.

From the place of a first error: the steps before it are right, it is wrong, the steps after it are not labelled.
"""

from __future__ import annotations

import difflib

from preferent.core.records import StepLabels
from preferent.data.formats.fields import Refused, Row, listed, need, optional_text, prompt
from preferent.data.formats.steps_fields import ParsedSteps, label_list, labels_of_place, place, solution, step_texts, without_blanks
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name

KEYS = frozenset({"prompt", "steps", "labels", "source", "id", "meta"})
_TRL = frozenset({"prompt", "completions", "labels"})
_PROCESSBENCH = frozenset({"problem", "steps", "label"})
_FIRST_ERROR = frozenset({"problem", "prompt", "steps", "first_error", "labels"})


def parse_native(row: Row) -> ParsedSteps:
    """`prompt, steps, labels`; without labels nothing is labelled."""
    unknown = sorted(row.keys() - KEYS)
    if unknown:
        close = difflib.get_close_matches(unknown[0], KEYS, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        raise Refused(Reason.UNKNOWN_KEYS, f"unknown {listed(unknown[:5])}{meant}; allowed are {', '.join(sorted(KEYS))}")
    need(row, "prompt", "steps")
    given = row.get("meta")
    if given is not None and not isinstance(given, dict):
        raise Refused(Reason.WRONG_TYPE, f"meta must be an object, found {type_name(given)}: {short(given)}")
    steps = step_texts(row["steps"], "steps")
    labels = [None] * len(steps) if row.get("labels") is None else label_list(row["labels"], "labels", len(steps))
    texts, values, notes = without_blanks(steps, labels)
    record = StepLabels(
        prompt=prompt(row["prompt"]),
        steps=texts,
        labels=values,
        source=optional_text(row, "source"),
        id=optional_text(row, "id"),
        meta=given or {},
    )
    return ParsedSteps((record,), notes)


def parse_trl(row: Row) -> ParsedSteps:
    """`prompt, completions, labels`."""
    need(row, "prompt", "completions", "labels")
    steps = step_texts(row["completions"], "completions")
    return solution(row, prompt(row["prompt"]), steps, label_list(row["labels"], "labels", len(steps)), read=_TRL)


def parse_processbench(row: Row) -> ParsedSteps:
    """`problem, steps, label`: the place of the first error, -1 for none."""
    need(row, "problem", "steps", "label")
    steps = step_texts(row["steps"], "steps")
    labels, notes = labels_of_place(steps, place(row["label"], "label", len(steps)), "label")
    parsed = solution(row, prompt(row["problem"], "problem"), steps, labels, read=_PROCESSBENCH)
    return ParsedSteps(parsed.records, parsed.notes + notes)


def parse_first_error(row: Row) -> ParsedSteps:
    """`problem, steps` with `first_error`, `labels`, or both: labels say more, and are taken."""
    if "problem" not in row:
        need(row, "prompt")
    need(row, "steps")
    turns = prompt(row["problem"], "problem") if "problem" in row else prompt(row["prompt"])
    steps = step_texts(row["steps"], "steps")
    first = place(row.get("first_error"), "first_error", len(steps))
    if row.get("labels") is None:
        labels, notes = labels_of_place(steps, first, "first_error")
    else:
        labels, notes = label_list(row["labels"], "labels", len(steps)), ()
        found = next((i for i, value in enumerate(labels) if value is not None and value < 0.5), -1)
        if first is not None and first != found:
            raise Refused(Reason.BAD_LABEL, f"first_error is {first}, but by the labels it is {found}")
    parsed = solution(row, turns, steps, labels, read=_FIRST_ERROR)
    return ParsedSteps(parsed.records, parsed.notes + notes)
