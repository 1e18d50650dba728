"""Step data of public releases that are more than lists: PRM800K, Math-Shepherd, PRMBench, MR-Ben.

- `prm800k` (Lightman et al. 2023, arXiv 2305.20050): the chosen path is one solution. At each step that is `chosen_completion`, or
  the step a person wrote (right); where neither is given, labelling stopped there, and the first completion ends the solution.
  Rating 1 is right, -1 wrong, 0 (not wrong, but no progress) right, which the ledger counts; null is not labelled. Every other
  rated completion is a solution of its own: the path up to it, not labelled a second time, and then that step with its label;
- `math_shepherd` (Wang et al. 2023, arXiv 2312.08935): `input` holds the problem and the steps, each ended by "ки"; `label` the same
  text with + or - there, or only the signs, or a list of signs or of success rates;
- `prmbench` (Song et al. 2025, arXiv 2501.03124): two solutions, the original (all right) and the modified, of which `error_steps`
  (counted from 1) are wrong and the others right. `meta.idx` names the problem, without the kind of error before it;
- `mr_ben` (Zeng et al. 2024, arXiv 2406.13975): one object per solution. Its `Model_Solution_First_Error_Step` is the number that the
  step carries ("Step 4: ..."), and where no step carries it the place among the steps that are not blank, counted from 1.
"""

from __future__ import annotations

import re
from typing import Any

from preferent.core.records import Prompt, StepLabels, user
from preferent.data.formats.fields import Notes, Refused, Row, need, optional_text, prompt, text
from preferent.data.formats.steps_fields import Label, ParsedSteps, label_list, labels_of_place, solution, step_texts
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name

MARK = "ки"
NEUTRAL = "neutral ratings (0): read as right"
HUMAN = "steps written by a person: read as right"
ALTERNATIVES = "rated alternatives: each a further solution with one label"
BAD_PROBLEM = "the labeller reported the problem as broken; kept"
_RATING: dict[int, float] = {1: 1.0, 0: 1.0, -1: 0.0}
_PRM800K = frozenset({"question", "label"})
_SHEPHERD = frozenset({"input", "label"})
_PRMBENCH_TEXT = frozenset({"question", "original_question", "modified_question", "original_process", "modified_process", "reason"})
_PRMBENCH = _PRMBENCH_TEXT | {"error_steps", "modified_steps", "idx"}
_MR_BEN = frozenset(
    {
        *("Question", "Options", "Model_Solution_Steps", "Model_Solution_Correctness", "Model_Solution_First_Error_Step"),
        *("Model_Solution_Error_Reason", "Model_Solution_Rectified_First_Error_Step", "Ground_Truth_Analysis"),
    }
)


# ---- PRM800K ----


def parse_prm800k(row: Row) -> ParsedSteps:
    """A labelled trajectory: the chosen path, then one solution for each rated alternative."""
    need(row, "question", "label")
    question, given = _object(row["question"], "question"), _object(row["label"], "label")
    need(question, "problem")
    need(given, "steps")
    turns = prompt(question["problem"], "question.problem")
    places = given["steps"]
    if not isinstance(places, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"label.steps must be a list, found {type_name(places)}: {short(places)}")
    path: list[str] = []
    labels: list[Label] = []
    others: list[tuple[int, str, Label]] = []
    counts = {NEUTRAL: 0, HUMAN: 0}
    for t, item in enumerate(places):
        completions, chosen = _completions(_object(item, f"label.steps[{t}]"), t)
        written = item.get("human_completion")
        if chosen is None and written is None and not completions:
            break
        index = -1 if chosen is None and written is not None else chosen or 0
        path_step = (_written(written, t), 1.0) if index < 0 else completions[index][:2]
        counts[HUMAN] += index < 0
        counts[NEUTRAL] += sum(neutral for _, _, neutral in completions)
        others += [(t, *one[:2]) for i, one in enumerate(completions) if i != index and one[1] is not None and one[0].strip()]
        path.append(path_step[0])
        labels.append(path_step[1])
        if chosen is None and written is None:
            break
    if not path:
        raise Refused(Reason.NO_STEPS, "label.steps holds no step")
    finished = str(given.get("finish_reason"))
    facts = {**row, "answer": question.get("ground_truth_answer"), "finish_reason": finished}
    whole = solution(facts, turns, path, labels, read=_PRM800K)
    further = tuple(_alternative(whole.records[0], path, other, k) for k, other in enumerate(others))
    kept = {**counts, ALTERNATIVES: len(further), BAD_PROBLEM: int(finished == "bad_problem")}
    # A path of which nothing is rated says nothing itself; its alternatives may.
    first = () if further and all(value is None for value in labels) else whole.records
    return ParsedSteps((*first, *further), whole.notes + tuple((note, n) for note, n in kept.items() if n))


def _completions(item: dict[str, Any], t: int) -> tuple[list[tuple[str, Label, bool]], int | None]:
    """(text, label, neutral) of every completion of a step, and which one the path takes."""
    given = item.get("completions") or []
    if not isinstance(given, list | tuple) or not all(isinstance(one, dict) for one in given):
        raise Refused(Reason.WRONG_TYPE, f"label.steps[{t}].completions must be a list of objects, found {short(given)}")
    found = []
    for i, one in enumerate(given):
        rating = one.get("rating")
        if rating is not None and (isinstance(rating, bool) or rating not in _RATING):
            raise Refused(Reason.BAD_LABEL, f"label.steps[{t}].completions[{i}].rating must be -1, 0, 1 or null, found {short(rating)}")
        found.append(
            (text(one.get("text"), f"label.steps[{t}].completions[{i}].text"), None if rating is None else _RATING[rating], rating == 0)
        )
    chosen = item.get("chosen_completion")
    if chosen is not None and (isinstance(chosen, bool) or not isinstance(chosen, int) or not 0 <= chosen < len(found)):
        raise Refused(
            Reason.BAD_LABEL, f"label.steps[{t}].chosen_completion must name one of {len(found)} completions, found {short(chosen)}"
        )
    return found, chosen


def _written(value: Any, t: int) -> str:
    """The step a person wrote: a text, in some rows an object with a text."""
    return text(value.get("text") if isinstance(value, dict) else value, f"label.steps[{t}].human_completion")


def _alternative(whole: StepLabels, path: list[str], other: tuple[int, str, Label], k: int) -> StepLabels:
    t, step, value = other
    before = tuple(part for part in path[:t] if part.strip())
    return whole.model_copy(
        update={
            "steps": (*before, step),
            "labels": (*[None] * len(before), value),
            "id": None if whole.id is None else f"{whole.id}/alternative-{k}",
        }
    )


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(Reason.WRONG_TYPE, f"{name} must be an object, found {type_name(value)}: {short(value)}")
    return value


# ---- Math-Shepherd ----


def parse_math_shepherd(row: Row) -> ParsedSteps:
    """`input` and `label`, as texts or with the signs alone."""
    need(row, "input", "label")
    given = text(row["input"], "input")
    parts = [part.removeprefix(" ?").removeprefix("?") for part in given.split(MARK)]
    if len(parts) < 2:
        raise Refused(Reason.NO_STEPS, f"input holds no step mark {MARK!r}: {short(given)}")
    if parts[-1].strip():
        raise Refused(Reason.LENGTHS_DIFFER, f"text after the last step mark {MARK!r}: {short(parts[-1])}")
    start = re.search(r"Step 1\s*:", parts[0])
    if start is None or not parts[0][: start.start()].strip():
        raise Refused(Reason.EMPTY_PROMPT, f"input must be a problem and then 'Step 1:', found {short(given)}")
    steps = [parts[0][start.start() :].strip(), *(part.strip() for part in parts[1:-1])]
    labels = _signs(row["label"], steps)
    return solution(row, user(parts[0][: start.start()].strip()), steps, labels, read=_SHEPHERD)


def _signs(value: Any, steps: list[str]) -> list[Label]:
    """One label per step, from the marked text, a row of signs, or a list."""
    if isinstance(value, list | tuple):
        return label_list([{"+": 1.0, "-": 0.0}.get(item, item) if isinstance(item, str) else item for item in value], "label", len(steps))
    marked = text(value, "label")
    if re.fullmatch(r"[+\-\s,]+", marked):
        return label_list([float(sign == "+") for sign in re.findall(r"[+-]", marked)], "label", len(steps))
    labels: list[Label] = []
    at = 0
    for i, step in enumerate(steps):
        found = marked.find(step, at)
        sign = re.compile(rf"\s*(?:{MARK})?\s*([+-])(?=\s|$)").match(marked, found + len(step)) if found >= 0 else None
        if sign is None:
            raise Refused(Reason.BAD_LABEL, f"label has no + or - after step {i}: {short(step)}")
        labels.append(float(sign[1] == "+"))
        at = sign.end()
    return labels


# ---- PRMBench, MR-Ben ----


def parse_prmbench(row: Row) -> ParsedSteps:
    """The original solution and the modified one."""
    need(row, "modified_process", "error_steps")
    steps = step_texts(row["modified_process"], "modified_process")
    errors = row["error_steps"]
    if not isinstance(errors, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"error_steps must be a list, found {type_name(errors)}: {short(errors)}")
    for error in errors:
        if isinstance(error, bool) or not isinstance(error, int) or not 1 <= error <= len(steps):
            raise Refused(Reason.BAD_LABEL, f"error_steps must be from 1 to {len(steps)} (counted from 1), found {short(error)}")
    asked = row.get("original_question", row.get("question"))
    labels: list[Label] = [0.0 if i + 1 in set(errors) else 1.0 for i in range(len(steps))]
    facts = {**row, "problem_idx": _problem_name(row)}
    modified = solution(facts, _asked(row.get("modified_question") or asked), steps, labels, read=_PRMBENCH)
    records, notes = [_renamed(modified.records[0], "modified")], modified.notes
    if row.get("original_process") is not None and asked is not None:
        original = step_texts(row["original_process"], "original_process")
        parsed = solution(facts, _asked(asked), original, [1.0] * len(original), read=_PRMBENCH)
        records.insert(0, _renamed(parsed.records[0], "original"))
        notes += tuple(note for note in parsed.notes if note not in modified.notes)
    return ParsedSteps(tuple(records), notes)


def _asked(value: Any) -> Prompt:
    return prompt(value, "modified_question")


def _problem_name(row: Row) -> str | None:
    """`circular_prm_test_p1_0` of the class `circular` is about the problem `prm_test_p1_0`."""
    name, kind = optional_text(row, "idx"), row.get("classification")
    if name is None:
        return None
    found = re.search(r"prm_(?:train|test).*", name)
    return found[0] if found else name.removeprefix(f"{kind}_")


def _renamed(record: StepLabels, which: str) -> StepLabels:
    kept = dict(record.meta)
    name = kept.pop("problem_idx", None)
    return record.model_copy(update={"meta": kept | ({} if name is None else {"idx": name}) | {"solution": which}})


def parse_mr_ben(row: Row) -> ParsedSteps:
    """One model solution with the number of its first wrong step, or N/A."""
    need(row, "Question", "Model_Solution_Steps", "Model_Solution_First_Error_Step")
    given = step_texts(row["Model_Solution_Steps"], "Model_Solution_Steps")
    steps = [step for step in given if step.strip()]
    if not steps:
        raise Refused(Reason.NO_STEPS, f"all {len(given)} steps are blank")
    number = str(row["Model_Solution_First_Error_Step"]).strip()
    if number.upper() in {"N/A", "NA", "NONE", ""}:
        if str(row.get("Model_Solution_Correctness", "correct")).strip().lower() != "correct":
            raise Refused(Reason.NO_LABELS, "the solution is called incorrect, and no first error step is given")
        first = -1
    else:
        first = _step_numbered(number, steps)
    labels, notes = labels_of_place(steps, first, "Model_Solution_First_Error_Step")
    asked, options = text(row["Question"], "Question"), row.get("Options")
    problem = f"{asked}\n{options}" if isinstance(options, str) and options.strip() else asked
    parsed = solution(row, user(problem), steps, labels, read=_MR_BEN)
    blanks: Notes = (("blank steps left out", len(given) - len(steps)),) if len(given) > len(steps) else ()
    return ParsedSteps(parsed.records, parsed.notes + notes + blanks)


def _step_numbered(number: str, steps: list[str]) -> int:
    if not number.isdecimal() or int(number) < 1:
        raise Refused(Reason.BAD_LABEL, f"Model_Solution_First_Error_Step must be a number from 1, or N/A, found {short(number)}")
    carried = [i for i, step in enumerate(steps) if re.match(rf"\W*step\s*{int(number)}\b", step, re.IGNORECASE)]
    if len(carried) == 1:
        return carried[0]
    if int(number) > len(steps):
        raise Refused(Reason.BAD_LABEL, f"Model_Solution_First_Error_Step is {number}, but there are {len(steps)} steps")
    return int(number) - 1
