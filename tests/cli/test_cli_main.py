"""What a shell sees of the command line: exit codes, where words go, and what a failure looks like."""

from __future__ import annotations

import subprocess
import sys
import types

import click
import pytest

from preferent.cli import main as cli
from preferent.core.errors import DataError, ExistsError


def command_that(do, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand `do` in for the module of `preferent check`."""
    module = types.ModuleType("preferent.cli.check")
    module.command = click.command()(do)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "preferent.cli.check", module)


def fails_with(error: BaseException):
    def do() -> None:
        raise error

    return do


def test_help_lists_every_command_in_the_order_of_the_work(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    places = [out.index(f"\n  {name} ") for name in ("check", "train", "evaluate", "score", "doctor", "demo")]
    assert places == sorted(places)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_in_the_table_exists_and_says_what_the_table_says(name, capsys):
    assert cli.main([name, "--help"]) == 0
    assert f"Usage: preferent {name}" in capsys.readouterr().out


def test_a_mistyped_command_names_the_nearest(capsys):
    assert cli.main(["evalute", "x"]) == 2
    assert "no command 'evalute'; did you mean 'evaluate'?" in capsys.readouterr().err


def test_a_command_like_none_lists_them_all(capsys):
    assert cli.main(["frobnicate"]) == 2
    assert f"no command 'frobnicate'; the commands are {', '.join(cli.COMMANDS)}" in capsys.readouterr().err


def test_the_users_mistake_is_a_message_and_a_hint_on_stderr_and_exit_1(monkeypatch, capsys):
    command_that(fails_with(DataError("rows.jsonl:7: 'p_a' is 1.5", hint="it is a probability")), monkeypatch)
    assert cli.main(["check"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: rows.jsonl:7: 'p_a' is 1.5\n\nhint: it is a probability\n"


def test_an_error_that_is_also_an_os_error_keeps_its_own_words(monkeypatch, capsys):
    command_that(fails_with(ExistsError("run/ exists")), monkeypatch)
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().err == "error: run/ exists\n"


def test_a_file_that_is_not_there_is_the_users_mistake(monkeypatch, capsys):
    command_that(fails_with(FileNotFoundError(2, "No such file or directory", "nowhere.jsonl")), monkeypatch)
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().err == "error: nowhere.jsonl: No such file or directory\n"


def test_a_missing_optional_package_names_its_extra(monkeypatch, capsys):
    command_that(fails_with(ModuleNotFoundError("No module named 'peft'", name="peft.tuners")), monkeypatch)
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().err == "error: 'peft' is not installed\n\nhint: pip install 'preferent[train]'\n"


def test_our_own_mistakes_stay_tracebacks(monkeypatch):
    command_that(fails_with(ZeroDivisionError("ours")), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        cli.main(["check"])
    command_that(fails_with(ModuleNotFoundError("No module named 'preferent.gone'", name="preferent.gone")), monkeypatch)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["check"])


def test_ctrl_c_is_130(monkeypatch, capsys):
    command_that(fails_with(KeyboardInterrupt()), monkeypatch)
    assert cli.main(["check"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_what_a_command_returns_is_the_exit_code(returned, code, monkeypatch):
    command_that(lambda: returned, monkeypatch)
    assert cli.main(["check"]) == code


def test_an_unknown_option_is_usage(monkeypatch, capsys):
    command_that(lambda: None, monkeypatch)
    assert cli.main(["check", "--strictt"]) == 2
    assert "--strictt" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error_message():
    """`preferent check | head -1`: 141 like every other tool, and nothing on stderr."""
    code = """
import sys, types, click
module = types.ModuleType("preferent.cli.check")
module.command = click.command()(lambda: [print("x" * 100) for _ in range(10_000)] and None)
sys.modules["preferent.cli.check"] = module
from preferent.cli.main import main
sys.exit(main(["check"]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_it_runs_as_a_module_which_is_how_accelerate_starts_it():
    done = subprocess.run([sys.executable, "-m", "preferent", "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("preferent, version ")
