"""Label models against crowd-kit: a million simulated votes with truth, and four real crowds with gold.

    python bench/crowd.py [--peer-python PYTHON] [--shared ../shared/data] [--out bench-out] [--repeats 2] [--quick] [--huge] [--real]

Every method runs in a process of its own with one thread; of `--repeats` runs the least CPU time is kept. CPU seconds run from columns of
ids to soft labels; "added" is the highest resident memory less that before the data were read. crowd-kit runs in `--peer-python` (this one
by default) and is skipped with a reason where it is not installed; a run is given `--patience` seconds of the clock.
`--real` runs the real crowds only and ends with the table of docs/aggregation.md. Bars that are missed are said. Writes
bench-out/crowd.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from crowd_data import FILES, write_real, write_simulated  # noqa: E402

OURS = ("majority", "wawa", "dawid-skene", "dawid-skene ml", "one-coin", "mace", "glad", "auto")
PEERS = ("MajorityVote", "Wawa", "ZeroBasedSkill", "DawidSkene", "OneCoinDawidSkene", "MACE", "GLAD")
SLOW_AT_A_MILLION = ("ZeroBasedSkill",)
BARS = {
    "dawid-skene": {"cpu_seconds": 0.7, "added_mib": 70.0, "accuracy": 0.9035, "log_loss": 0.233},
    "glad": {"cpu_seconds": 60.0},
    "alpha": {"cpu_seconds": 5.0},
    "flags": {"adversaries_flagged": 0.95, "others_flagged_adversary": 0.01},
}
AT_LEAST = ("accuracy", "adversaries_flagged")


def run(python: str, script: Path, data: Path, method: str, *, repeats: int, patience: float) -> dict[str, Any]:
    """The fastest of several runs, or why there is none.

    A run that ends by the clock says how much CPU it had used. A process that was stopped or starved is no slow contestant, so one that
    had the CPU for less than half of its time is called stalled and is to be run again.
    """
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    best: dict[str, Any] | None = None
    for _ in range(repeats):
        child = subprocess.Popen(
            [python, str(script), str(data), method], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        try:
            out, err = child.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            cpu = _cpu_seconds(child.pid)
            child.kill()
            child.communicate()
            if best is not None:
                return best
            what = "not finished" if cpu >= patience / 2 else "stalled, run it again: no figure"
            return {"method": method, "skipped": f"{what} (after {patience:.0f} s, {cpu:.0f} s of them on the CPU)"}
        if child.returncode:
            return {"method": method, "skipped": (err.strip().splitlines() or ["no message"])[-1][:200]}
        facts = json.loads(out.strip().splitlines()[-1])
        if best is None or facts["cpu_seconds"] < best["cpu_seconds"]:
            best = facts
    assert best is not None
    return best


def _cpu_seconds(pid: int) -> float:
    """User and system seconds that a living process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(rows: list[dict[str, Any]], title: str) -> None:
    print(f"\n{title}\n{'':24}{'CPU s':>9}{'added MiB':>11}{'accuracy':>10}{'log loss':>10}")
    for row in rows:
        name = f"{row['who']} {row['method']}"
        if "skipped" in row:
            print(f"{name:24}  skipped: {row['skipped']}")
        elif "accuracy" in row:
            figures = f"{row['cpu_seconds']:9.2f}{row['added_mib']:11.0f}{row['accuracy']:10.4f}{row['log_loss']:10.4f}"
            print(f"{name:24}{figures}")
        else:
            rest = {key: value for key, value in row.items() if key not in ("who", "method", "votes", "peak_rss_mib")}
            print(f"{name:24}{json.dumps(rest)}")
    sys.stdout.flush()


def best_peer(rows: list[dict[str, Any]]) -> str:
    """How `auto` stands against the best of the peers, each figure by itself."""
    ours = next(row for row in rows if row["method"] == "auto")
    done = [row for row in rows if row["who"] == "crowd-kit" and "skipped" not in row]
    if not done or "skipped" in ours:
        return "no comparison: nothing to compare with"
    # A peer may break its ties by column order if that does it good.
    accuracy = max(max(row["accuracy"], row["accuracy_first_column"]) for row in done)
    loss = min(row["log_loss"] for row in done)
    missing = [row["method"] for row in rows if row["who"] == "crowd-kit" and "skipped" in row]
    holds = ours["accuracy"] >= accuracy - 5e-5 and ours["log_loss"] <= loss + 5e-5
    figures = f"auto {ours['accuracy']:.4f} / {ours['log_loss']:.4f} against the peers' best {accuracy:.4f} / {loss:.4f}"
    return f"{figures}: {'holds' if holds else 'MISSED'}{f' (without {missing!r}, which gave no figure)' if missing else ''}"


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Every bar of a million votes, reached or missed."""
    lines = []
    for row in rows:
        for what, bar in BARS.get(row["method"], {}).items() if row["who"] == "ours" else ():
            if what not in row:
                lines.append(f"no figure for {row['method']} {what}: {row.get('skipped')}")
                continue
            reached = row[what] >= bar - 5e-5 if what in AT_LEAST else row[what] <= bar
            lines.append(f"{'reached' if reached else 'MISSED '}  {row['method']} {what}: {row[what]:.4g}, the bar is {bar}")
    return lines


def linear(report: dict[str, list[dict[str, Any]]]) -> str:
    """Seconds and memory of Dawid-Skene at every simulated size, and their ratios to the smallest."""
    rows = {row["votes"]: row for one in report.values() for row in one if row["method"] == "dawid-skene" and "cpu_seconds" in row}
    rows = {votes: rows[votes] for votes in sorted(rows) if any(f"{votes:,} votes" in title for title in report)}
    if len(rows) < 2:
        return ""
    least = next(iter(rows.values()))
    parts = [
        f"{votes:,}: {row['cpu_seconds']:.2f} s (x{row['cpu_seconds'] / least['cpu_seconds']:.1f}), "
        f"{row['added_mib']:.0f} MiB (x{row['added_mib'] / least['added_mib']:.1f})"
        for votes, row in rows.items()
    ]
    return "dawid-skene by number of votes: " + "; ".join(parts)


def markdown(report: dict[str, list[dict[str, Any]]]) -> str:
    """The table of docs/aggregation.md: accuracy / log loss of every method on every real crowd."""
    names = [name for name in FILES if name in report and len(report[name]) > 1]
    methods = [(row["who"], row["method"]) for row in report[names[0]]] if names else []
    lines = [f"| method | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for who, method in methods:
        cells = []
        for name in names:
            row = next(row for row in report[name] if (row["who"], row["method"]) == (who, method))
            cells.append(f"{row['accuracy']:.4f} / {row['log_loss']:.4f}" if "accuracy" in row else "no answer")
        bold = "**" if method == "auto" else ""
        lines.append(f"| {bold}{who} {method}{bold} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=os.environ.get("PREFERENT_PEER_PYTHON", sys.executable))
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("PREFERENT_SHARED_DATA", HERE / "../../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--patience", type=float, default=300.0)
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulated votes, no peers that take minutes")
    parser.add_argument("--only", default="", help="only contests whose title holds this text")
    parser.add_argument("--huge", action="store_true", help="also ten million votes")
    parser.add_argument("--real", action="store_true", help="only the real crowds, and their table in Markdown")
    given = parser.parse_args()
    check = subprocess.run([given.peer_python, "-c", "import crowdkit"], capture_output=True, text=True, check=False)
    reason = None if check.returncode == 0 else f"crowd-kit is not installed in {given.peer_python} (pip install crowd-kit==1.4.2)"
    scratch, n = given.out / "crowd", 20_000 if given.quick else 200_000
    report: dict[str, Any] = {}

    def contest(data: Path, ours: tuple[str, ...], peers: tuple[str, ...]) -> list[dict[str, Any]]:
        limits = {"repeats": given.repeats, "patience": given.patience}
        rows = [{"who": "ours", **run(sys.executable, HERE / "crowd_one.py", data, method, **limits)} for method in ours]
        for method in peers:
            if reason:
                rows.append({"who": "crowd-kit", "method": method, "skipped": reason})
                continue
            script = HERE / "peers/crowdkit_labels.py"
            slow = {"repeats": 1, "patience": given.patience} if method in ("GLAD", "MACE", "OneCoinDawidSkene") else limits
            rows.append({"who": "crowd-kit", **run(given.peer_python, script, data, method, **slow)})
        return rows

    def simulated(title: str, items: int, ours: tuple[str, ...], peers: tuple[str, ...], *, texts: bool = False) -> None:
        if given.only not in title or given.real:
            return
        data = write_simulated(scratch / f"simulated-{items}{'-texts' if texts else ''}.npz", items, texts=texts)
        report[title] = contest(data, ours, peers)
        show(report[title], title)

    peers = tuple(name for name in PEERS if name not in SLOW_AT_A_MILLION)
    simulated(f"{5 * n:,} votes, whole-number ids", n, (*OURS, "alpha", "flags"), peers)
    simulated(f"{5 * n:,} votes, text ids", n, ("dawid-skene",), ("DawidSkene",), texts=True)
    for factor in (2, 10) if given.huge else (2,):
        simulated(f"{5 * n * factor:,} votes", n * factor, ("dawid-skene",), ())
    for name in [name for name in FILES if given.only in name]:
        data = write_real(given.shared, name, scratch / f"{name}.npz")
        if data is None:
            report[name] = [{"who": "all", "method": "all", "skipped": f"{given.shared / name}.jsonl.gz is not here"}]
            show(report[name], name)
            continue
        report[name] = contest(data, ("majority", "wawa", "dawid-skene", "one-coin", "mace", "glad", "auto"), PEERS)
        show(report[name], name)
        print(best_peer(report[name]))
    for title, rows in report.items():
        lines = verdicts(rows) if title == f"{5 * n:,} votes, whole-number ids" and not given.quick else []
        print("\n".join(["", title, *lines]) if lines else "", end="\n" if lines else "")
    print(linear(report))
    autos = [row for name in FILES for row in report.get(name, []) if row["method"] == "auto" and "cpu_seconds" in row]
    if autos:
        print(f"auto on {len(autos)} real crowds together: {sum(row['cpu_seconds'] for row in autos):.2f} s of CPU")
    if given.real:
        print(f"\n{markdown(report)}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "crowd.json").write_text(json.dumps({"bars": BARS, "figures": report}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
