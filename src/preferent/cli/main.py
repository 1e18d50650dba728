"""The `preferent` command: a table of subcommands loaded when they run, and what every failure looks like from a shell.

Exit codes: 0 done, 1 the user's data or settings, 2 usage, 130 interrupted, 141 the reader of our output went away.
A subcommand lives in `preferent/cli/<name>.py` (dashes as underscores) as a click command named `command`; an int that it returns
is the exit code.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from preferent import __version__
from preferent.cli.output import talk
from preferent.core.errors import PreferentError
from preferent.core.extras import missing_extra

# name -> what the command does, in the order of the work. Help shows these lines without importing anything.
COMMANDS = {
    "agree": "How far annotators agree, and the ceiling that sets for any model.",
    "aggregate": "Turn judgments into soft preferences, and say which annotators to believe.",
    "annotators": "Report on the annotators: reliability, bias, groups, disagreements, coverage.",
    "next": "Choose what to ask next, of whom, and say how many votes a pair still needs.",
    "check": "Pass a file of preferences or step labels through the data gate and print its ledger.",
    "triage": "Which labels to ask people about again: those that reward models did not expect.",
    "judge": "Have a language model judge comparisons by a constitution, as annotators would.",
    "label-steps": "Label the steps of solutions by rollouts, binary search, a judge, or two of them.",
    "augment": "Make training rows that teach what not to look at: off-prompt, ties, the audit's edits.",
    "train": "Train a reward model on preferences.",
    "calibrate": "Fit temperature, length calibration, intervals and a Laplace head on labelled pairs.",
    "average": "One reward model from the mean of several models' weights.",
    "evaluate": "Accuracy, calibration and baselines of a reward model, with intervals.",
    "audit": "What a reward pays for that it should not, on your texts or on built-in ones.",
    "benchmark": "A published benchmark, scored as its authors do, and what of it was trained on.",
    "compare": "Two scorers on the same texts: who is better where, and what cannot be told.",
    "score": "Give every prompt and response of a file its reward.",
    "doctor": "Run the invariance suite on any sequence-classification reward model.",
    "lab": "Experiments in worlds whose true reward is known: over-optimisation, mitigations, annotators.",
    "demo": "The whole way once, offline, in a world whose true reward is known.",
}
EXIT_USER, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 130, 141


class LazyGroup(click.Group):
    """A group whose commands are the modules named in `table`, imported when asked for."""

    def __init__(self, *args: Any, table: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        # Words are parted by dashes in a shell, by underscores in a module's name.
        command = import_module(f"preferent.cli.{cmd_name.replace('-', '_')}").command
        command.name, command.short_help = cmd_name, self.table[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.table and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, self.table, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(self.table)}"
            raise click.UsageError(f"no command {name!r}; {meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, but a reader that went away (`| head`) gets the exit code a shell expects."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered would fail again when the interpreter closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(EXIT_BROKEN_PIPE)
        return result


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="preferent")
def preferent() -> None:
    """From preferences to a reward model you can trust."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (default: the process's) and return its exit code."""
    try:
        result = preferent.main(args=argv, prog_name="preferent", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        talk("interrupted")
        return EXIT_INTERRUPTED
    except PreferentError as error:
        return _fail(error.message, error.hint)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        return _fail(missing.message, missing.hint)
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}")
    code = result if isinstance(result, int) else 0
    if os.environ.get("RANK", "0") != "0":
        _leave(code)
    return code


def _leave(code: int) -> NoReturn:
    """End a process that is not the main one of several, without the interpreter's teardown: there gloo's threads abort now and then
    when the main process is still evaluating, and the launcher would kill that one for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fail(message: str, hint: str | None = None) -> int:
    talk(f"error: {message}" + ("" if hint is None else f"\n\nhint: {hint}"))
    return EXIT_USER


if __name__ == "__main__":
    sys.exit(main())
