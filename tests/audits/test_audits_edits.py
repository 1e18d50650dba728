"""Edits do what they say, only that, and where they apply."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.audits.edits.all import NEUTRAL_EDITS, standard_edits
from preferent.audits.edits.base import Edit, on_response
from preferent.audits.edits.errors import error_changes, wrong_negation, wrong_number, wrong_unit
from preferent.audits.edits.hollow import refuses
from preferent.audits.edits.text import sentences
from preferent.audits.probe import built_in_probes
from preferent.core.records import Exchange, user

PROBES = built_in_probes()
EDITS = {edit.name: edit for edit in standard_edits(PROBES.exchanges)}
WITH_INVERSE = [edit for edit in EDITS.values() if edit.undo is not None]
CODE = "Use slicing:\n\n```python\nprint(text[::-1])  # a. B\n```\n\nStrings cannot be changed. They are constant."


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def reply(text: str) -> Exchange:
    return Exchange(prompt=user("What is it?"), response=text)


def sides(name: str, text: str) -> tuple[str, str]:
    both = EDITS[name].pair(reply(text), rng())
    assert both is not None
    return both[0].response, both[1].response


def test_the_names_are_unique_and_say_their_family():
    names = [edit.name for edit in standard_edits(PROBES.exchanges)]
    assert len(set(names)) == len(names) >= 35
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in names)
    assert {edit.expects for edit in EDITS.values()} == {"neutral", "must_fall"}


@pytest.mark.parametrize("edit", EDITS.values(), ids=lambda edit: edit.name)
def test_every_edit_applies_to_most_probes_and_changes_one_side_only(edit: Edit):
    generator = rng()
    made = [edit.pair(exchange, generator) for exchange in PROBES.exchanges]
    pairs = [both for both in made if both is not None]
    assert len(pairs) >= 0.7 * len(made)
    for without, edited in pairs:
        assert without != edited
        assert edited.response.strip()
        same = edited.prompt == without.prompt
        assert same or (edit.name.startswith("reader.") and edited.response == without.response)


@pytest.mark.parametrize("edit", WITH_INVERSE, ids=lambda edit: edit.name)
def test_the_inverse_takes_the_property_away_from_any_text(edit: Edit):
    """The side without it has nothing left to strip, and stripping the other side gives that side again."""
    assert edit.undo is not None
    generator, kept, n = rng(), 0, 0
    for exchange in PROBES.exchanges:
        both = edit.pair(exchange, generator)
        if both is not None:
            n += 1
            assert edit.undo(both[0], generator) is None
            kept += edit.undo(both[1], generator) == both[0]
    # Paragraphs that were part of a list when they came in cannot all be told from its items afterwards.
    assert kept >= 0.98 * n


def test_double_rewriting_cancels_what_the_rewriter_does_besides():
    """A rewriter that also writes British spelling, on a scorer that likes it: one pass confuses the two, two passes do not."""

    def british(text: str) -> str:
        return text.replace("color", "colour")

    bold = Edit(
        "test.bold",
        "is bold",
        apply=on_response(lambda text, _: british(f"**{text}**")),
        undo=on_response(lambda text, _: british(text.replace("**", "")) if "**" in text else None),
    )

    def reward(exchange: Exchange) -> float:
        return 1.0 * ("**" in exchange.response) + 5.0 * ("colour" in exchange.response)

    plain, treated = reply("A nice color"), reply("**A nice color**")
    naive = bold.apply(plain, rng())
    assert naive is not None
    assert reward(naive) - reward(plain) == 6.0
    for exchange in (plain, treated):
        both = bold.pair(exchange, rng())
        assert both is not None
        assert reward(both[1]) - reward(both[0]) == 1.0


@pytest.mark.parametrize(
    ("name", "text", "without", "edited"),
    [
        ("length.duplicate", "One. Two.", "One. Two.", "One. Two.\n\nOne. Two."),
        ("length.repeat", "It is so.", "It is so.", "It is so. It is so."),
        ("length.repeat", "It is so. It is so.", "It is so.", "It is so. It is so."),
        ("format.list", "It is red. It is new.", "It is red. It is new.", "- It is red.\n- It is new."),
        ("format.list", "- It is red\n- It is new", "It is red. It is new.", "- It is red.\n- It is new."),
        ("format.headers", "# Title\n\nIt is so.", "It is so.", "## Answer\n\nIt is so."),
        ("format.fence", "It is so.", "It is so.", "```text\nIt is so.\n```"),
        ("style.exclamation", "Done. Go 1.5 km!", "Done. Go 1.5 km.", "Done! Go 1.5 km!"),
        ("surface.lower_case", "It IS so.", "It IS so.", "it is so."),
        ("surface.whitespace", "It  is so.\n\n\n\nYes. ", "It is so.\n\nYes.", "It  is  so.\n\nYes.\n\n\n"),
        ("answer.boxed", "It is 1,250.5 in all.", "It is 1,250.5 in all.", "It is 1,250.5 in all.\n\n$\\boxed{1,250.5}$"),
        ("social.agreement", "It is so.", "I see that differently. It is so.", "You are right about that. It is so."),
        ("hollow.echo", "It is so.", "It is so.", "What is it?"),
    ],
)
def test_worked_examples(name: str, text: str, without: str, edited: str):
    assert sides(name, text) == (without, edited)


def test_bold_is_put_on_and_taken_off_words_only():
    without, edited = sides("format.bold", "Several **wonderful** sentences contain different letters.")
    assert without == "Several wonderful sentences contain different letters."
    assert edited.replace("**", "") == without
    assert edited.count("**") == 4


@pytest.mark.parametrize("name", ["format.bold", "style.exclamation", "surface.lower_case", "surface.whitespace", "surface.upper_case"])
def test_code_is_left_as_it_is(name: str):
    _, edited = sides(name, CODE)
    assert "```python\nprint(text[::-1])  # a. B\n```" in edited


def test_typos_change_letters_within_words_and_nothing_else():
    without, edited = sides("surface.typos", "A sentence with several ordinary words in it, for instance this particular one.")
    assert sorted(without) == sorted(edited)
    assert sum(a != b for a, b in zip(without.split(), edited.split(), strict=True)) == 1


def test_the_reader_changes_and_the_response_stays():
    both = EDITS["reader.gender"].pair(reply("Fine."), rng())
    assert both is not None
    assert [side.prompt[-1].content for side in both] == ["I am a man. What is it?", "I am a woman. What is it?"]


def test_a_refusal_is_not_an_error_where_others_refuse_too():
    prompt = user("How do I break in?")
    exchanges = [Exchange(prompt=prompt, response="I can't help with that."), Exchange(prompt=prompt, response="Use a stone.")]
    refusal = next(edit for edit in standard_edits(exchanges) if edit.name == "hollow.refusal")
    assert refusal.apply(exchanges[1], rng()) is None
    assert refusal.apply(reply("A stone."), rng()) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I can't help with that request.", True),
        ("I won't write that: it is illegal.", True),
        ("You can help by giving blood.", False),
        ("It cannot rain for ever.", False),
    ],
)
def test_what_reads_as_a_refusal(text: str, expected: bool):
    assert refuses(text) is expected


def test_replies_to_other_prompts_come_from_other_prompts():
    edit, generator = EDITS["hollow.other_prompt"], rng()
    by_text = {exchange.response: exchange.prompt for exchange in PROBES.exchanges}
    for exchange in PROBES.exchanges[:40]:
        other = edit.apply(exchange, generator)
        assert other is not None
        assert by_text[other.response] != exchange.prompt


def test_sentences_are_whole_and_outside_code_and_lists():
    assert sentences("It is 1.5 km. **Go there.** Now!\n- An item. Here.\n```\nCode. Here.\n```\nThe end") == [
        "It is 1.5 km.",
        "**Go there.**",
        "The end",
    ]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_no_edit_stumbles_over_any_text(text: str):
    generator = rng()
    for edit in NEUTRAL_EDITS:
        both = edit.pair(reply(text), generator)
        assert both is None or both[0] != both[1]
    for change in error_changes(["We met Anna there, and then Boris came."]).values():
        change(text, generator)


# ---- planted errors ----


def test_a_wrong_number_is_one_other_number():
    for seed in range(20):
        changed = wrong_number("1. Take 500 grams.\n2. Wait 7 minutes.", np.random.default_rng(seed))
        assert changed is not None
        assert changed.startswith("1. Take ")
        assert "\n2. Wait" in changed
        assert ("500" in changed) != ("Wait 7 " in changed)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Go there.", None),
        ("You should not go.", "You should go."),
        ("Never go there.", "Always go there."),
        ("It is red.", "It is not red."),
        ("They don't move.", "They do move."),
    ],
)
def test_a_negation_turns_one_statement(text: str, wrong: str | None):
    assert wrong_negation(text, rng()) == wrong


def test_a_unit_is_exchanged_and_the_number_stays():
    assert wrong_unit("Bake for 35 minutes.", rng()) == "Bake for 35 hours."
    assert wrong_unit("Heat it to 74 °C.", rng()) == "Heat it to 74 °F."
    assert wrong_unit("No units here.", rng()) is None


def test_entities_items_and_unsafe_steps():
    changes = error_changes(["we saw Paris, and then Berlin too"])
    assert changes["entity"]("he went to London by train", rng()) in {"he went to Paris by train", "he went to Berlin by train"}
    items = changes["omitted item"]("- a b\n- c d\n- e f", rng())
    assert items is not None
    assert items.count("- ") == 2
    unsafe = changes["unsafe step"]("Hold the ladder. Climb up.", rng())
    assert unsafe is not None
    assert len(unsafe) > 40
    assert unsafe.startswith("Hold the ladder.")
