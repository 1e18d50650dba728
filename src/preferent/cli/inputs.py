"""Options that several commands take about the data they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from preferent.core.records import Exchange

if TYPE_CHECKING:
    from preferent.data.ratings import AnyFormat


@dataclass(frozen=True)
class Reading:
    """How to read, as the command line says it."""

    output: Path
    held_out_file: str | None
    comparisons: Path | None
    data_format: AnyFormat
    strict: bool
    repeats: Literal["refuse", "merge"] = "refuse"


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--format and --strict, of pairs and rankings."""
    from preferent.data.formats.detect import SHAPES

    return _data_options(function, SHAPES)


def all_data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--format and --strict, of pairs, rankings and ratings."""
    from preferent.data.ratings import ALL_SHAPES

    return _data_options(function, ALL_SHAPES)


def repeats_option(*policies: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--repeats, of those that read votes; a name of `annotators.table.Policies.repeats` each."""
    means = {
        "merge": "alike ones are one vote, contradictory ones none",
        "share": "each counts its share of one",
        "keep": "each counts in full",
    }
    words = "; ".join(f"{name}: {means[name]}" for name in policies)
    return click.option(
        "--repeats",
        type=click.Choice(["refuse", *policies]),
        default="refuse",
        show_default=True,
        help=f"Several votes of one annotator on one comparison. {words[0].upper()}{words[1:]}.",
    )


def _data_options(function: Callable[..., Any], shapes: Sequence[str]) -> Callable[..., Any]:
    for option in (
        click.option("--strict", is_flag=True, help="Any refused row is an error."),
        click.option(
            "--format",
            "data_format",
            type=click.Choice(["auto", *shapes]),
            default="auto",
            show_default=True,
            help="The shape of the rows; auto looks at the keys of every row.",
        ),
    ):
        function = option(function)
    return function


def over_long_counter(base: str | None, max_length: int | None) -> tuple[Callable[[Exchange], int] | None, int | None]:
    """A function that counts an exchange's tokens under `base`, and the limit; (None, None) without a base."""
    if base is None:
        if max_length is not None:
            raise click.UsageError("--max-length needs --base: length is counted in that base's tokens")
        return None, None
    from preferent.cli.scorers import refuse_unreachable_base
    from preferent.models.renderer import load_renderer

    refuse_unreachable_base(base)
    renderer = load_renderer(base)
    return renderer.count, max_length or renderer.max_length
