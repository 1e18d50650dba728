"""A file of comparisons through a judge of pairs: judgments like people's, in the order of the input, with the texts and the reasons.

Answers are gathered beside the output, line by line; a run that was stopped goes on where it ended. Every pair is shown in both orders
by default, and one judgment is made of both, so that a lean to a place is no preference.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Comparison
from preferent.data.formats.fields import Refused, need, prompt, text
from preferent.data.ledger import Refusal
from preferent.data.lines import as_paths, read_raw
from preferent.data.write import dump, finish, refuse_overwrite
from preferent.feedback.preference_judge import Answer

IDS = ("comparison_id", "id")
META = "judge"
Ask = Callable[[Comparison], Answer]
Orders = Literal["both", "one"]


@dataclass(frozen=True)
class JudgeOptions:
    """annotator: the name the judgments go by. orders: "both", or "one", drawn for each comparison from `seed` and its id. settings: what
    else the answers depend on; a run goes on only with the same."""

    annotator: str
    orders: Orders = "both"
    objective: str | None = None
    seed: int = 0
    workers: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    force: bool = False

    @property
    def stamp(self) -> dict[str, Any]:
        return {"orders": self.orders, "seed": self.seed, **self.settings}


@dataclass
class JudgeSummary:
    """What came of a file. turned: comparisons whose winner changed with the order. unread: answers that named no side."""

    output: Path
    choices: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    turned: int = 0
    unread: int = 0
    refused: tuple[str, ...] = ()

    @property
    def judgments(self) -> int:
        return self.choices.total()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        names = ("judgments", "resumed", "turned", "unread")
        return {name: getattr(self, name) for name in names} | {
            "choices": dict(self.choices), "refused": list(self.refused), "output": str(self.output)
        }  # fmt: skip

    def render(self) -> str:
        said = ", ".join(f"{self.choices[name]} {name}" for name in ("a", "b", "tie", "skip") if self.choices[name])
        lines = [f"{self.judgments} judgments ({said}): {self.output}"]
        if self.resumed:
            lines.append(f"{self.resumed} of them were there from an earlier run")
        if self.turned:
            lines.append(f"in {self.turned} the winner changed with the order: a tie")
        if self.unread:
            lines.append(f"{self.unread} answers named no side; a comparison with no other answer is a skip")
        lines += [f"refused: {reason}" for reason in self.refused[:20]]
        return "\n".join([*lines, *([f"  and {len(self.refused) - 20} more"] if len(self.refused) > 20 else [])])

    def count(self, row: dict[str, Any]) -> None:
        facts = row["meta"][META]
        self.choices[row["choice"]] += 1
        self.turned += bool(facts["turned"])
        self.unread += int(facts["unread"])


def judge_file(
    source: Path, output: Path, ask: Ask, options: JudgeOptions, *, progress: Callable[[int], None] | None = None
) -> JudgeSummary:
    """Judge every comparison of `source` (JSONL or Parquet rows of comparison_id or id, prompt, response_a, response_b) and write JSON
    lines of judgments to `output`.

    Raises DataError for an input without comparisons, with an id twice, or a partial output of another run; ExistsError; and whatever
    `ask` raises, with everything so far kept for the next run.
    """
    if any(Path(name).exists() and output.exists() and output.samefile(name) for name in as_paths(source)):
        raise DataError(f"{output}: is the input", hint="choose another output")
    if output.suffix == ".parquet":
        raise ConfigError(f"{output}: judgments are written as JSON lines", hint="name a .jsonl or .jsonl.gz file")
    refuse_overwrite(output, force=options.force)
    partial = output.with_name(output.name + ".partial")
    if options.force:
        partial.unlink(missing_ok=True)
    refused: list[Refusal] = []
    comparisons = _comparisons(source, refused)
    summary = JudgeSummary(output)
    if partial.exists():
        _resume(partial, comparisons, summary, options)
    try:
        with partial.open("ab") as file:
            for comparison, row in _judged(comparisons, ask, options):
                file.write(dump(row, comparison.id))
                file.flush()
                summary.count(row)
                if progress is not None:
                    progress(1)
    finally:
        if not summary.judgments:
            partial.unlink()  # nothing in it to go on from
    summary.refused = tuple(map(str, refused))
    if not summary.judgments:
        found = "".join(f"\n  {refusal}" for refusal in refused[:5])
        raise DataError(f"{source}: no comparison to judge{found}", hint="rows have comparison_id or id, prompt, response_a and response_b")
    finish(partial, output)
    return summary


def _comparisons(source: Path, refused: list[Refusal]) -> Iterator[Comparison]:
    """The comparisons of a file; rows that are none go to the list."""
    seen: dict[str, str] = {}
    for raw in read_raw(source):
        if isinstance(raw, Refusal):
            refused.append(raw)
            continue
        try:
            need(raw.value, "prompt", "response_a", "response_b")
            turns = prompt(raw.value["prompt"])
            a, b = (text(raw.value[name], name) for name in ("response_a", "response_b"))
        except Refused as error:
            refused.append(Refusal(raw.where, error.reason, error.detail))
            continue
        name = str(next((raw.value[key] for key in IDS if raw.value.get(key) is not None), raw.where))
        if name in seen:
            raise DataError(f"{raw.where}: the comparison {name!r} stands at {seen[name]} too", hint="ids of comparisons are different")
        seen[name] = raw.where
        yield Comparison(id=name, prompt=turns, response_a=a, response_b=b)


def _judged(comparisons: Iterator[Comparison], ask: Ask, options: JudgeOptions) -> Iterator[tuple[Comparison, dict[str, Any]]]:
    """Several at a time, in their order."""
    waiting: deque[tuple[Comparison, Future[dict[str, Any]]]] = deque()
    with ThreadPoolExecutor(options.workers) as pool:
        try:
            for comparison in comparisons:
                while len(waiting) >= options.workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
                waiting.append((comparison, pool.submit(_judgment, comparison, ask, options)))
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _judgment(comparison: Comparison, ask: Ask, options: JudgeOptions) -> dict[str, Any]:
    """One row. Of both orders the mean decides; where their winners differ that is a tie."""
    began = time.perf_counter()
    first = "a" if options.orders == "both" else _drawn(comparison.id, options.seed)
    shown = {"a": comparison, "b": comparison.swap()}
    orders = ("a", "b") if options.orders == "both" else (first,)
    answers = [ask(shown[order]) for order in orders]
    chances = [answer.p_a if order == "a" else 1.0 - answer.p_a for order, answer in zip(orders, answers, strict=True)]
    turned = len(chances) == 2 and (chances[0] - 0.5) * (chances[1] - 0.5) < 0
    p_a = sum(chances) / len(chances)
    unread, told = sum(answer.unread for answer in answers), sum(len(answer.texts) for answer in answers)
    silent = told > 0 and unread == told
    choice = "skip" if silent else "tie" if turned or p_a == 0.5 else "a" if p_a > 0.5 else "b"
    facts = options.stamp | {"p_a": p_a, "turned": turned, "unread": unread}
    fields = {
        "comparison_id": comparison.id,
        "annotator_id": options.annotator,
        "choice": choice,
        "objective": options.objective,
        "shown_first": first if options.orders == "one" else None,
        "rationale": "\n\n".join(text for answer in answers for text in answer.texts) or None,
        "seconds": round(time.perf_counter() - began, 3),
        "prompt": [message.model_dump() for message in comparison.prompt],
        "response_a": comparison.response_a,
        "response_b": comparison.response_b,
        "meta": {META: facts},
    }
    return {name: value for name, value in fields.items() if value is not None}


def _drawn(name: str, seed: int) -> Literal["a", "b"]:
    """Which response is shown first: the same for an id wherever it stands."""
    return "a" if blake2b(f"{seed}\0{name}".encode(), digest_size=1).digest()[0] & 1 else "b"


def _resume(partial: Path, comparisons: Iterator[Comparison], summary: JudgeSummary, options: JudgeOptions) -> None:
    """Count the whole lines of an earlier run, checked against the input, and cut a torn last one. The comparisons done are consumed."""
    whole = 0
    with partial.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            row = _row(line)
            if row is None:
                raise _other_run(partial, f"line {number} is no judgment")
            comparison = next(comparisons, None)
            if comparison is None or (row["comparison_id"], row["response_a"], row["response_b"]) != (
                comparison.id, comparison.response_a, comparison.response_b,
            ):  # fmt: skip
                raise _other_run(partial, f"line {number} judges {row['comparison_id']!r}, which the input does not have there")
            before = {name: row["meta"][META].get(name) for name in options.stamp} | {"annotator": row["annotator_id"]}
            now = options.stamp | {"annotator": options.annotator}
            if before != now:
                raise _other_run(partial, f"line {number} was made with {before}, this run has {now}")
            whole += len(line)
            summary.count(row)
    summary.resumed = summary.judgments
    with partial.open("r+b") as file:
        file.truncate(whole)


def _row(line: bytes) -> dict[str, Any] | None:
    """A line as `_judgment` makes them, else None."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    needed = {"comparison_id", "annotator_id", "choice", "response_a", "response_b", "meta"}
    return row if isinstance(row, dict) and needed <= row.keys() and META in row["meta"] else None


def _other_run(partial: Path, what: str) -> DataError:
    return DataError(f"{partial}: left by another run: {what}", hint="--force starts over, or choose another output")
