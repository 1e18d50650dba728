"""Label the steps of every solution of a file: in the input's order, resumable after a kill at any moment, never over a limit of calls.

Answers are appended to OUTPUT.partial and take OUTPUT's place when the last one is there. A later run with the same output goes on
after the last whole line, once it has found the same solutions in the input and the same settings in the lines.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from preferent.core.errors import ConfigError, DataError
from preferent.core.records import StepLabels
from preferent.data.formats.steps_detect import StepFormat
from preferent.data.ledger import Refusal
from preferent.data.lines import Source, as_paths
from preferent.data.steps_read import LocatedSteps, read_steps
from preferent.data.steps_write import step_row
from preferent.data.write import dump, finish, refuse_overwrite
from preferent.feedback.labellers import Labelled, Labeller

# Where a labelled row keeps how it was labelled.
META = "auto_labels"
_MOST_WORKERS = 64


@dataclass
class LabelSummary:
    """solutions: labelled, those of an earlier run included (`resumed`). steps, labelled_steps, wrong_steps: of these; wrong is below
    1/2. unlabelled: solutions without a single label (a disagreement, or a judge without a verdict). calls: rollouts and judgements,
    of earlier runs too. finished: whether every solution of the source is done; otherwise the limit of calls stopped the run, and what
    is done stands in OUTPUT.partial. refused: rows of the source that are no solution."""

    output: str
    settings: dict[str, Any]
    solutions: int = 0
    resumed: int = 0
    steps: int = 0
    labelled_steps: int = 0
    wrong_steps: int = 0
    unlabelled: int = 0
    calls: int = 0
    finished: bool = False
    refused: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"refused": list(self.refused)}

    def render(self) -> str:
        """A few lines for a terminal."""
        where = self.output if self.finished else f"{self.output}.partial"
        lines = [
            f"{self.solutions} solutions in {where}" + (f", {self.resumed} of them from an earlier run" if self.resumed else ""),
            f"{self.labelled_steps} of {self.steps} steps labelled, {self.wrong_steps} of them as wrong; {self.calls} calls",
        ]
        if self.unlabelled:
            lines.append(f"{self.unlabelled} solutions without a label (no verdict, or no agreement); the data gate leaves them out")
        lines += [f"refused: {text}" for text in self.refused[:20]]
        if len(self.refused) > 20:
            lines.append(f"and {len(self.refused) - 20} more refused rows")
        if not self.finished:
            lines.append("stopped at the limit of calls: run it again with a higher limit to go on")
        return "\n".join(lines)

    def count(self, row: dict[str, Any]) -> None:
        """Add one labelled row."""
        known = [label for label in row["labels"] if label is not None]
        self.solutions += 1
        self.steps += len(row["labels"])
        self.labelled_steps += len(known)
        self.wrong_steps += sum(label < 0.5 for label in known)
        self.unlabelled += not known
        self.calls += row["meta"][META]["calls"]


@dataclass(frozen=True)
class LabelOptions:
    """format: of the source's rows. max_calls: the most rollouts and judgements, those of earlier runs of this output included; a
    solution is begun only when the most it can cost is left. workers: solutions labelled at a time, in threads (for an endpoint; a policy
    must stand that). settings: further facts that the labels depend on (a model's name), part of what a resumed run must share. force:
    overwrite the output, and forget what an earlier run left of it. Raises ConfigError for a number of workers outside 1..64."""

    format: StepFormat = "auto"
    max_calls: int | None = None
    workers: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    force: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= _MOST_WORKERS:
            raise ConfigError(f"workers={self.workers!r}, allowed are whole numbers from 1 to {_MOST_WORKERS}")


def label_file(
    source: Source,
    output: str | Path,
    labeller: Labeller,
    options: LabelOptions | None = None,
    *,
    progress: Callable[[int], object] | None = None,
) -> LabelSummary:
    """Label every solution of `source` (step data of any shape, labelled or not; old labels are not read) in `output`.

    `output` is JSON lines (gzipped for `.gz`) that `check_steps` reads; `meta.auto_labels` holds how each solution was labelled: the
    settings, the success counts, the calls. progress: called with the number of solutions just done.

    Raises ExistsError when `output` is there, DataError when what an earlier run left belongs to another input or other settings, and
    whatever the policy, the checker or the judge raises; what is done by then is kept.
    """
    options, output = options or LabelOptions(), Path(output)
    partial = _partial(source, output, options)
    refused: list[Refusal] = []
    solutions = _solutions(source, options.format, refused)
    summary = LabelSummary(str(output), labeller.settings() | options.settings)
    if partial.exists():
        _resume(partial, solutions, summary)
        if progress is not None and summary.resumed:
            progress(summary.resumed)
    # The first row is read before the partial file is made: a source that cannot be opened leaves nothing behind.
    first = next(solutions, None)
    if first is None and not summary.solutions:
        raise DataError(f"{', '.join(as_paths(source))}: holds no solution in steps", hint="a row is {prompt, steps}; see preferent check")
    output.parent.mkdir(parents=True, exist_ok=True)
    run = _Run(labeller, summary, options)
    with partial.open("ab") as file:
        for record, found in run.over(solutions if first is None else chain([first], solutions)):
            row = _row(record, found, summary.settings)
            file.write(dump(row, str(partial)))
            file.flush()
            summary.count(row)
            if progress is not None:
                progress(1)
    summary.finished = not run.stopped
    summary.refused = tuple(str(refusal) for refusal in refused)
    if summary.finished:
        finish(partial, output)
    return summary


def _partial(source: Source, output: Path, options: LabelOptions) -> Path:
    """Where answers are gathered, once it is certain that they may be."""
    if any(Path(name).exists() and output.exists() and output.samefile(name) for name in as_paths(source)):
        raise DataError(f"{output}: is the input", hint="choose another output")
    if output.suffix == ".parquet":
        raise ConfigError(f"{output}: labelled solutions are written as JSON lines", hint="name a .jsonl or .jsonl.gz file")
    refuse_overwrite(output, force=options.force)
    partial = output.with_name(output.name + ".partial")
    if options.force:
        partial.unlink(missing_ok=True)
    return partial


class _Run:
    """Solutions through the labeller, several at a time, in their order; stops before the limit of calls could be passed."""

    def __init__(self, labeller: Labeller, summary: LabelSummary, options: LabelOptions) -> None:
        self.labeller, self.workers = labeller, options.workers
        self.stopped = False
        self._left = None if options.max_calls is None else options.max_calls - summary.calls

    def over(self, solutions: Iterator[StepLabels]) -> Iterator[tuple[StepLabels, Labelled]]:
        waiting: deque[tuple[StepLabels, Future[Labelled]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for record in solutions:
                    while waiting and (len(waiting) >= self.workers or not self._affords(record)):
                        yield self._done(waiting)
                    if not self._affords(record):
                        self.stopped = True
                        break
                    if self._left is not None:
                        self._left -= self.labeller.most_calls(record)
                    waiting.append((record, pool.submit(self.labeller, record)))
                while waiting:
                    yield self._done(waiting)
            finally:
                for _, future in waiting:
                    future.cancel()

    def _affords(self, record: StepLabels) -> bool:
        return self._left is None or self.labeller.most_calls(record) <= self._left

    def _done(self, waiting: deque[tuple[StepLabels, Future[Labelled]]]) -> tuple[StepLabels, Labelled]:
        record, future = waiting.popleft()
        found = future.result()
        if self._left is not None:
            self._left += self.labeller.most_calls(record) - found.calls
        return record, found


def _solutions(source: Source, format: StepFormat, refused: list[Refusal]) -> Iterator[StepLabels]:
    """The solutions of a source, each with an id (its place where it has none); refusals go to the list."""
    for row in read_steps(source, format=format, unlabelled=True):
        if isinstance(row, LocatedSteps):
            place = row.where if row.nth == 0 else f"{row.where}/{row.nth}"
            yield row.record if row.record.id is not None else row.record.model_copy(update={"id": place})
        else:
            refused.append(row)


def _row(record: StepLabels, found: Labelled, settings: dict[str, Any]) -> dict[str, Any]:
    facts = settings | found.facts | {"calls": found.calls}
    labelled = record.model_copy(update={"labels": found.labels, "meta": {**record.meta, META: facts}})
    return step_row(labelled)


# ---- resume ----


def _resume(partial: Path, solutions: Iterator[StepLabels], summary: LabelSummary) -> None:
    """Count the whole lines of an earlier run, checked against the input, and cut a torn last one. The solutions done are consumed."""
    whole = 0
    with partial.open("rb") as file:
        for number, line in enumerate(file, 1):
            row = _whole(line)
            if row is None:
                break
            record = next(solutions, None)
            if record is None or row.get("id") != record.id or row.get("steps") != list(record.steps):
                found = "the input has no more solutions" if record is None else f"the input has {record.id!r} there"
                raise _other_run(partial, f"line {number} labels {row.get('id')!r}, but {found}")
            before = {name: row["meta"][META].get(name) for name in summary.settings}
            if before != summary.settings:
                raise _other_run(partial, f"line {number} was made with {before}, this run has {summary.settings}")
            whole += len(line)
            summary.count(row)
    summary.resumed = summary.solutions
    with partial.open("r+b") as file:
        file.truncate(whole)


def _whole(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("meta"), dict) and META in row["meta"] and "labels" in row else None


def _other_run(partial: Path, what: str) -> DataError:
    return DataError(f"{partial}: left by another run: {what}", hint="--force starts over, or choose another output")
