"""Exchanges that a reward model is probed with, written for this project: 1 to 3 turns, a few words to a page, two responses each."""

from __future__ import annotations

from preferent.core.records import Exchange, Message, Prompt, user


def _chat(*turns: str) -> Prompt:
    return tuple(Message(role="assistant" if i % 2 else "user", content=turn) for i, turn in enumerate(turns))


_TIDES = (
    "The Moon pulls on the near side of the Earth a little more than on its centre, and on the centre a little more than on the far "
    "side. Seen from the centre, water is stretched along the line to the Moon, so there are two bulges, one on each side. The Earth "
    "turns under them once a day, which makes about two high tides a day. The Sun does the same with a bit less than half the "
    "strength. When Sun and Moon stand in line the effects add up to spring tides; at right angles they partly cancel, and the tides "
    "are small."
)

PROBES: tuple[tuple[Prompt, str, str], ...] = (
    (user("What is the capital of Portugal?"), "Lisbon.", "Portugal is a country in Europe with many beautiful cities."),
    (user("Why are there two tides a day?"), _TIDES, "Because of the Moon."),
    (
        user("Write a two-line rhyme about a kettle."),
        "The kettle hums, the kettle sings,\nand steam goes up on silver wings.",
        "A kettle is a vessel for boiling water. It does not rhyme with much.",
    ),
    (
        user("Fix this sentence: 'Their going too the store tomorow.'"),
        "They're going to the store tomorrow.",
        "The sentence is fine as it is.",
    ),
    (
        _chat(
            "I planted tomatoes last week and the leaves are curling.",
            "Curling leaves often mean heat, wind, or uneven watering. How often do you water?",
            "Every evening, a little.",
        ),
        "Try watering deeply every two or three days in the morning instead. A little each evening keeps the roots shallow and leaves wet.",
        "Tomatoes are red. You should look it up.",
    ),
    (
        _chat("Convert 5 miles to kilometres.", "5 miles are about 8.05 kilometres.", "And 12?"),
        "12 miles are about 19.3 kilometres (12 × 1.609 = 19.31).",
        "12 miles are about 7.5 kilometres.",
    ),
    (
        user("Summarise in one sentence: " + _TIDES),
        "Differences in the Moon's and the Sun's pull across the Earth raise two bulges, so most coasts see two high tides a day.",
        "It is a text about water.",
    ),
    (
        user("Schreib mir einen Satz über den Regen – auf Deutsch, bitte."),
        "Der Regen malt Kreise auf den stillen See.",
        "Rain falls down. 🌧",
    ),
)


def probe_exchanges() -> list[Exchange]:
    """Sixteen exchanges: eight prompts, the better response first."""
    return [Exchange(prompt=prompt, response=response) for prompt, *responses in PROBES for response in responses]
