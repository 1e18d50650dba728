"""The benches: preferent and its peers on the same weights and rows, in interleaved rounds. `make bench`, or

    python bench/run.py [--rounds 3] [--tasks train-hh,score-shared] [--fixture FOLDER] [--out bench-out] [--quick]

Every contestant is a process of its own with the same thread setting (meter.py describes the line it hands back). Each round runs
the machine's matrix rate, then preferent and each peer in turn; a figure is the median of the rounds, with the lowest and the highest
beside it. A ratio is preferent's rate over the peer's within a round. The bar of a task is held against the peer's fastest setting.
Prints tables and writes OUT/bench.json with every line. Exits 1 when a contestant fails; a bar that is missed is said, not an error.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OURS = "preferent"
FIRST_STEPS = 5  # losses of so many steps must agree
Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contestant:
    """`name` is unique within its task; `peer` is what the bar is held against, over all its settings."""

    name: str
    peer: str
    script: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """What is measured, the bar for the ratio, and who takes part: the first is ours."""

    name: str
    bar: float
    contestants: tuple[Contestant, ...]

    @property
    def training(self) -> bool:
        return self.name.startswith("train-")


def train_hh() -> Task:
    data = ("--data", "hh", "--warm-up", "2")
    trl = "peers/trl_train.py"
    return Task(
        "train-hh",
        3.5,
        (
            Contestant(OURS, OURS, "ours_train.py", (*data, "--pairs-per-step", "8")),
            Contestant("trl, 8 pairs a pass", "trl", trl, (*data, "--batch", "8")),
            Contestant("trl, 8 pairs a pass, checkpointing (its default)", "trl", trl, (*data, "--batch", "8", "--checkpointing")),
            Contestant("trl, 1 pair a pass, 8 passes a step", "trl", trl, (*data, "--batch", "1", "--accumulate", "8")),
        ),
    )


def train_tulu() -> Task:
    # All pairs are measured, so that both have the same: a step of TRL's is a seventh of a prompt, one of ours a prompt.
    data = ("--data", "tulu", "--warm-up", "0")
    trl = "peers/trl_train.py"
    return Task(
        "train-tulu",
        10.0,
        (
            Contestant(OURS, OURS, "ours_train.py", (*data, "--pairs-per-step", "55")),
            Contestant("trl, 8 pairs a pass", "trl", trl, (*data, "--batch", "8")),
            Contestant("trl, 1 pair a pass, 55 passes a step", "trl", trl, (*data, "--batch", "1", "--accumulate", "55")),
        ),
    )


def scoring(name: str, bar: float) -> Task:
    data = ("--data", name)
    cross, pipe = "peers/crossencoder_score.py", "peers/pipeline_score.py"
    return Task(
        f"score-{name}",
        bar,
        (
            Contestant(OURS, OURS, "ours_score.py", data),
            Contestant("crossencoder, batch 1", "crossencoder", cross, (*data, "--batch", "1")),
            Contestant("crossencoder, batch 32 (its default)", "crossencoder", cross, (*data, "--batch", "32")),
            Contestant("pipeline, batch 1 (its default)", "pipeline", pipe, (*data, "--batch", "1")),
            Contestant("pipeline, batch 8", "pipeline", pipe, (*data, "--batch", "8")),
        ),
    )


TASKS = {task.name: task for task in (train_hh(), train_tulu(), scoring("shared", 4.0), scoring("single", 1.5))}


def run_line(command: Sequence[str], threads: int) -> Line:
    """One process; its last line of stdout. RuntimeError with the end of stderr when it fails."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"{' '.join(command)} exited {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_round(tasks: Iterable[Task], fixture: Path, number: int, threads: int) -> tuple[list[Line], list[str]]:
    """(lines, failures) of one round: the machine's rate and every contestant once."""
    lines, failures = [], []
    for task in tasks:
        jobs = [(None, [str(HERE / "matmul.py")])] if task.training else []
        jobs += [(one, [str(HERE / one.script), str(fixture), *one.options]) for one in task.contestants]
        for one, command in jobs:
            try:
                line = run_line([*command, "--threads", str(threads)], threads)
            except RuntimeError as error:
                failures.append(str(error))
                print(f"failed: {error}", file=sys.stderr)
                continue
            line |= {"task": task.name, "round": number, "name": "machine" if one is None else one.name, "peer": one and one.peer}
            lines.append(line)
            said = f"{line['peak_gflops']:.1f} GFLOP/s" if one is None else f"{rate(line):.2f}/CPU s"
            print(f"round {number}  {task.name:12s} {line['name']:50s} {said}", file=sys.stderr)
    return lines, failures


def rate(line: Line) -> float:
    """Pairs or items per CPU second."""
    return (line.get("pairs_measured") or line["items"]) / line["cpu_seconds"]


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "n": len(values)}


def differences(ours: Line, other: Line) -> dict[str, Any]:
    """How far the results are from ours: losses of the first steps where the steps hold the same pairs, or all scores."""
    if "scores" in ours:
        return {"scores_differ": max(abs(a - b) for a, b in zip(ours["scores"], other["scores"], strict=True))}
    if len(ours["losses"]) != len(other["losses"]):
        return {"losses_differ": None}  # other steps
    pairs = list(zip(ours["losses"], other["losses"], strict=True))[:FIRST_STEPS]
    return {"losses_differ": max(abs(a - b) for a, b in pairs)}


def summary_of(task: Task, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One row per contestant that has run: rate, ratio, share of the machine's rate, memory, agreement."""
    mine = [line for line in lines if line["task"] == task.name]
    peak = {line["round"]: line["peak_gflops"] for line in mine if line["name"] == "machine"}
    ours = {line["round"]: line for line in mine if line["name"] == OURS}
    rows = []
    for one in task.contestants:
        own = [line for line in mine if line["name"] == one.name]
        if not own:
            continue
        row: dict[str, Any] = {"task": task.name, "name": one.name, "peer": one.peer, "rate": spread([rate(line) for line in own])}
        row["wall_rate"] = spread([rate(line) * line["cpu_seconds"] / line["wall_seconds"] for line in own])
        row["peak_rss_mib"] = spread([line["peak_rss_mib"] for line in own])
        shares = [line["work_gflop"] / line["cpu_seconds"] / peak[line["round"]] for line in own if line["round"] in peak and task.training]
        row["share_of_machine"] = spread(shares) if shares else None
        both = [(ours[line["round"]], line) for line in own if line["round"] in ours and one.name != OURS]
        if both:
            row["ratio"] = spread([rate(a) / rate(b) for a, b in both])
            row |= differences(*both[0])
        rows.append(row)
    return rows


def table_of(task: Task, rows: Sequence[dict[str, Any]]) -> str:
    unit = "pairs/CPU s" if task.training else "items/CPU s"
    out = [f"\n{task.name}", f"  {'':50s}{unit:>22s}{'ours is faster by':>24s}{'of machine':>12s}{'peak MiB':>10s}  {'differs by':>10s}"]
    for row in rows:
        share = "" if row["share_of_machine"] is None else f"{row['share_of_machine']['median']:.2f}"
        apart = row.get("losses_differ", row.get("scores_differ"))
        out.append(
            f"  {row['name']:50s}{_shown(row['rate']):>22s}{_shown(row.get('ratio')):>24s}{share:>12s}"
            f"{row['peak_rss_mib']['median']:>10.0f}  {'' if apart is None else f'{apart:.1e}':>10s}"
        )
    return "\n".join([*out, *(f"  {verdict['text']}" for verdict in verdicts(task, rows))])


def _shown(value: dict[str, float] | None) -> str:
    return "" if value is None else f"{value['median']:.2f} ({value['low']:.2f}-{value['high']:.2f})"


def verdicts(task: Task, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each peer's fastest setting against the bar."""
    ours = next((row for row in rows if row["name"] == OURS), None)
    found: list[dict[str, Any]] = []
    if ours is None:
        return found
    for peer in dict.fromkeys(row["peer"] for row in rows if row["peer"] != OURS):
        best = max((row for row in rows if row["peer"] == peer), key=lambda row: row["rate"]["median"])
        if "ratio" not in best:
            continue
        ratio, reached = best["ratio"]["median"], best["ratio"]["median"] >= task.bar
        word = "reached" if reached else "MISSED "
        text = f"{word}  {ratio:.2f}x of {peer}'s fastest setting ({best['name']}), the bar is {task.bar}x"
        verdict = {"task": task.name, "peer": peer, "setting": best["name"], "ratio": ratio, "bar": task.bar}
        found.append({**verdict, "reached": reached, "text": text})
    return found


def build_fixture(folder: Path, *, quick: bool) -> None:
    sizes = ("--hh-steps", "7", "--tulu-prompts", "1", "--score-prompts", "2", "--single-items", "48") if quick else ()
    print(f"building the fixture in {folder}", file=sys.stderr)
    run_line([str(HERE / "fixtures.py"), str(folder), *sizes], 1)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="preferent and its peers, measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated; allowed: " + ", ".join(TASKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fixture", type=Path, help="a folder that fixtures.py built; without it, one is built and thrown away")
    parser.add_argument("--out", type=Path, default=HERE.parent / "bench-out")
    parser.add_argument("--quick", action="store_true", help="small fixture and one round: does everything run?")
    given = parser.parse_args()
    unknown = [name for name in given.tasks.split(",") if name not in TASKS]
    if unknown:
        parser.error(f"unknown task {unknown[0]!r}, allowed: {', '.join(TASKS)}")
    return given


def main() -> int:
    given = options()
    tasks = [TASKS[name] for name in given.tasks.split(",")]
    lines: list[Line] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="preferent-bench-") as temporary:
        fixture = given.fixture or Path(temporary)
        if given.fixture is None:
            try:
                build_fixture(fixture, quick=given.quick)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                return 1
        facts = json.loads((fixture / "fixture.json").read_text(encoding="utf-8"))
        for number in range(1, (1 if given.quick else given.rounds) + 1):
            more, failed = run_round(tasks, fixture, number, given.threads)
            lines += more
            failures += failed
    rows = {task.name: summary_of(task, lines) for task in tasks}
    found = [verdict for task in tasks for verdict in verdicts(task, rows[task.name])]
    given.out.mkdir(parents=True, exist_ok=True)
    saved = {"threads": given.threads, "fixture": facts, "summary": rows, "bars": found, "failures": failures, "lines": lines}
    (given.out / "bench.json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    for task in tasks:
        print(table_of(task, rows[task.name]))
    print(f"\nthreads: {given.threads}; medians of {max((line['round'] for line in lines), default=0)} rounds (lowest-highest)")
    print(given.out / "bench.json")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
