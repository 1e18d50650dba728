"""Documentation that cannot rot: the README's commands and Python run, and docs/cli.md is what the commands print.

`PREFERENT_WRITE_DOCS=1 pytest tests/test_docs.py` writes docs/cli.md anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from preferent.cli.main import COMMANDS, preferent

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLI_PAGE = ROOT / "docs/cli.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language ("" for none)."""
    parts = README.split("```")[1::2]
    return [part.split("\n", 1)[1] for part in parts if part.split("\n", 1)[0] == language]


def commands() -> list[list[str]]:
    lines = [line.split("#")[0].strip() for block in blocks("") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("preferent ")]


def help_of(*path: str) -> str:
    result = CliRunner().invoke(preferent, [*path, "--help"], prog_name="preferent", terminal_width=110)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_of_commands_is_what_the_commands_print() -> None:
    parts = ["# Commands\n\nComputed from the commands themselves; `tests/test_docs.py` compares.\n"]
    parts += [f"## preferent {name}\n\n```\n{help_of(name)}```\n" for name in COMMANDS]
    page = "\n".join(parts)
    if os.environ.get("PREFERENT_WRITE_DOCS"):
        CLI_PAGE.write_text(page, encoding="utf-8")
    assert CLI_PAGE.read_text(encoding="utf-8") == page


def test_every_command_of_the_readme_exists() -> None:
    named = {words[1] for words in commands()}
    assert {"check", "train", "evaluate", "score", "doctor", "aggregate", "next", "audit", "compare", "benchmark"} <= named <= set(COMMANDS)


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_readme_as_a_new_user_would_type_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows it shows are read, and its commands run on a file of such rows (with the base that needs no download)."""
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in blocks("jsonl")[0].splitlines()]
    assert len(rows) == 4
    nouns = ("egg", "apple", "house", "river", "cloud", "stone", "tree", "lamp", "boat", "road", "bird", "fish", "hill", "star", "door")
    file = list(rows)
    for number, noun in enumerate(nouns):
        prompt = f"Tell me something about the {noun}, please, number {number}."
        file.append({"prompt": prompt, "chosen": f"The {noun} is good.", "rejected": f"I hate the {noun}."})
    for name in ("prefs.jsonl", "other.jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in file), encoding="utf-8")
    votes = [
        {"comparison_id": f"c{row}", "annotator_id": f"p{who}", "choice": "a" if (row + who) % 4 else "b", "shown_first": "ab"[row % 2],
         "prompt": pair["prompt"], "response_a": pair["chosen"], "response_b": pair["rejected"]}
        for row, pair in enumerate(file[4:]) for who in range(4)
    ]  # fmt: skip
    Path("votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes), encoding="utf-8")
    Path("replies.jsonl").write_text(json.dumps({"id": 1, "prompt": "Hello", "response": "Hi."}) + "\n", encoding="utf-8")
    for words in commands():
        if words[1] == "demo":
            continue
        words = ["tiny" if word == "minilm" else word for word in words[1:]]
        extra = {"train": ["--threads", "1", "--held-out", "0.3"], "audit": ["--only", "blind_spots"]}.get(words[0], [])
        result = CliRunner().invoke(preferent, [*words, *extra], prog_name="preferent", standalone_mode=False)
        assert result.exception is None or isinstance(result.exception, click.exceptions.Exit), (words, result.output, result.exception)
    assert Path("my-reward/report.html").is_file()
    assert Path("report.html").is_file()
    answered = json.loads(Path("rewards.jsonl").read_text(encoding="utf-8"))
    assert answered["id"] == 1
    assert isinstance(answered["reward"], float)
    for page in ("annotators.html", "audit.html"):
        assert Path(page).is_file()
    assert len(Path("ask.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    assert Path("from-votes/annotators.jsonl").is_file()
    Path("rated.jsonl").write_text(blocks("jsonl")[1], encoding="utf-8")
    checked = CliRunner().invoke(preferent, ["check", "rated.jsonl", "--strict"], prog_name="preferent", standalone_mode=False)
    assert checked.exception is None, checked.output
    names: dict[str, object] = {}  # a reader goes on with the names of the block before
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
