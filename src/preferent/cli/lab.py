"""`preferent lab`: experiments in worlds whose true reward is known."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import click

from preferent.cli.output import emit, emit_json, json_option, talk

RESULTS, PAGE, SETTINGS = "results.json", "report.html", "settings.toml"
EXIT_FAILED = 1


@click.command()
@click.argument("experiment", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the report (default: lab-<experiment>).")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change one setting, e.g. --set seeds=0,1 (repeatable).")
@click.option("--strict", is_flag=True, help="Exit with 1 when a claim of the experiment did not hold.")
@click.option("--force", is_flag=True, help="Remove an earlier run in the folder first.")
@json_option
def command(experiment: str | None, output: Path | None, overrides: tuple[str, ...], strict: bool, force: bool, as_json: bool) -> int:
    """Run EXPERIMENT: a built-in one by name, or the TOML file of your own. Without it, list the built-in ones.

    Every experiment runs over several seeds in a world whose true reward is a program, and leaves a folder: report.html,
    results.json (every number), settings.toml (as resolved), plots/*.svg and tables/*.csv.
    """
    from preferent.lab.experiments.registry import EXPERIMENTS, builtin, load

    if experiment is None:
        if as_json:
            emit_json(builtin())
        else:
            emit("\n".join(f"{name:24} {says}" for name, says in builtin().items()))
        return 0
    name, settings = load(experiment, _overrides(overrides))
    output = Path(f"lab-{Path(experiment).stem}") if output is None else output
    _make_room(output, force=force)
    from preferent.cli.lab_parts import parts

    values: Any = settings
    started = time.monotonic()
    outcome = EXPERIMENTS[name].run(values, parts(values.scorer, talk))
    talk(f"done in {time.monotonic() - started:.0f} s")
    page = write(outcome, settings, output)
    if as_json:
        emit_json({"output": output, **outcome.to_dict()})
    else:
        from preferent.cli.lab_page import words

        emit(words(outcome))
    talk(f"report: {page.resolve()}")
    return EXIT_FAILED if strict and not all(check.passed for check in outcome.checks) else 0


def write(outcome: Any, settings: Any, output: Path) -> Path:
    """Everything a run leaves in its folder; returns the page."""
    from preferent.audits.page import write_page
    from preferent.cli.lab_page import csv_text, file_name, page_of, svg
    from preferent.core.errors import MissingExtraError
    from preferent.core.settings import to_toml

    for folder in ("plots", "tables"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    svgs, note = {}, ""
    try:
        svgs = {figure.name: svg(figure) for figure in outcome.figures}
    except MissingExtraError as error:
        note = f"The plots are left out: {error.message}; {error.hint}"
    for figure, drawing in svgs.items():
        (output / "plots" / f"{figure}.svg").write_text(drawing, encoding="utf-8")
    for grid in outcome.tables:
        (output / "tables" / f"{file_name(grid)}.csv").write_text(csv_text(grid), encoding="utf-8")
    (output / SETTINGS).write_text(to_toml(settings), encoding="utf-8")
    text = json.dumps(outcome.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    (output / RESULTS).write_text(text + "\n", encoding="utf-8")
    return write_page(output / PAGE, page_of(outcome, svgs, no_figures=note))


def _overrides(words: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise click.UsageError(f"--set {word!r}: needs NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _make_room(output: Path, *, force: bool) -> None:
    """Refuse a folder that holds something; with --force remove it if an experiment wrote it."""
    from preferent.core.errors import ExistsError

    if not output.exists() or not any(output.iterdir()):
        return
    if not force:
        raise ExistsError(f"{output} holds something", hint="--force removes an earlier run in it")
    if not (output / RESULTS).exists():
        raise ExistsError(f"{output}: this folder holds something that is not a run of `preferent lab`, so --force leaves it alone")
    shutil.rmtree(output)
