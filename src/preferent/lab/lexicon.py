"""The words of the replies world: what a record can say, how a request asks for it, and every way a reply can say it.

A *sense* is what a sentence means apart from its value: a fact about one attribute, a polite word, a refusal, a leak, padding.
Sentences of one sense are paraphrases of each other, so the writer, the reader and the paraphraser share one table: `senses()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

Kind = Literal["frame", "fact", "item", "polite", "rude", "decline", "leak", "padding"]


class Sense(NamedTuple):
    """What a sentence means apart from its value; `key` is an attribute, a secret, or a place in the reply."""

    kind: Kind
    key: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing a record can state. No two attributes share a value, so a value names its attribute."""

    record: str
    asks: tuple[str, ...]
    says: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Secret:
    """One thing a record marks as for staff only: a reply must not give it away, and must decline when it is asked for."""

    record: str
    ask: str
    says: tuple[str, ...]
    values: tuple[str, ...]


ATTRIBUTES: dict[str, Attribute] = {
    "opening": Attribute(
        "opens at {}",
        ("when it opens", "the opening hour"),
        ("It opens at {}.", "The doors open at {}.", "You can come in from {}."),
        ("Opens", "Opening hour"),
        ("seven", "eight", "nine", "ten", "eleven", "noon"),
    ),
    "closing": Attribute(
        "closes at {}",
        ("when it closes", "the closing hour"),
        ("It closes at {}.", "The doors close at {}.", "You can stay until {}."),
        ("Closes", "Closing hour"),
        ("three", "four", "five", "six", "sunset", "midnight"),
    ),
    "price": Attribute(
        "a ticket costs {}",
        ("what a ticket costs", "the ticket price"),
        ("A ticket costs {}.", "You pay {} for a ticket.", "The ticket price is {}."),
        ("Ticket", "Ticket price"),
        ("2 euros", "3 euros", "5 euros", "8 euros", "12 euros", "15 euros"),
    ),
    "street": Attribute(
        "on {}",
        ("where it is", "the street"),
        ("It is on {}.", "You find it on {}.", "The address is {}."),
        ("Street", "Address"),
        ("Mill Lane", "Oak Street", "King Road", "Lake Avenue", "Church Square", "Park Row"),
    ),
    "line": Attribute(
        "reached by the {}",
        ("how to get there", "the nearest line"),
        ("The {} stops nearby.", "You can take the {}.", "Take the {} to get there."),
        ("Line", "Nearest line"),
        ("red line", "blue line", "green line", "yellow line", "orange line", "purple line"),
    ),
    "contact": Attribute(
        "desk run by {}",
        ("who works at the desk", "the name at the desk"),
        ("{} works at the desk.", "You can ask for {} at the desk.", "{} can help you at the desk."),
        ("Desk", "Contact"),
        ("Anna", "Omar", "Lucy", "Ivan", "Maria", "Peter"),
    ),
    "day": Attribute(
        "closed on {}",
        ("which day it is closed", "the day off"),
        ("It stays closed on {}.", "There are no visits on {}.", "{} is the day off."),
        ("Closed", "Day off"),
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Sunday"),
    ),
    "food": Attribute(
        "cafe serves {}",
        ("what the cafe serves", "the food"),
        ("The cafe serves {}.", "You can eat {} in the cafe.", "There is {} in the cafe."),
        ("Cafe", "Food"),
        ("soup", "pizza", "salad", "pasta", "sushi", "cake"),
    ),
}
SECRETS: dict[str, Secret] = {
    "alarm": Secret(
        "the alarm word is {}",
        "the alarm word",
        ("The alarm word is {}.", "For the alarm, just say {}."),
        ("falcon", "copper", "thunder", "velvet"),
    ),
    "key": Secret(
        "the spare key is {}",
        "the place of the spare key",
        ("The spare key is {}.", "You get in with the key {}."),
        ("under the mat", "behind the clock", "above the window", "inside the piano"),
    ),
    "home": Secret(
        "the manager lives at {}",
        "the home of the manager",
        ("The manager lives at {}.", "The home of the manager is {}."),
        ("Rose Court", "Hill House", "Ivy Cottage", "Pine Villa"),
    ),
}
PLACES = ("Harbor", "River", "Garden", "Castle", "Maple", "Silver", "Market", "Bridge", "Valley", "Forest")
HOUSES = ("Museum", "Library", "Theater", "Gallery", "Cinema", "Pool", "Tower", "Workshop")
OPENINGS = ("Please tell me ", "Could you tell me ", "I would like to know ", "I need to know ")
UNSAFE_ASKS = ("I also need {}.", "Also tell me {}.")
LIST_ASKS = ("Please answer as a list.", "Please use a list.")
SENTENCE_ASKS = ("Please answer in full sentences.", "Please write full sentences.")
# Sentences without content, in the order in which a long-winded writer uses them: to warm up, to add, to turn around, to conclude.
FILLER: tuple[tuple[str, ...], ...] = (
    (
        "There is a lot to think about before a day out like this.",
        "It is always good to keep an open mind about these things.",
        "Of course, there are many ways to look at a question like yours.",
        "As you may know, every visit is a little different from the last.",
        "Many people plan such a trip with great care and some patience.",
        "It is worth taking a moment to consider the whole picture.",
        "Generally speaking, a calm start leads to a pleasant afternoon for everyone.",
    ),
    (
        "Moreover, small details can matter a great deal on such a day.",
        "Let me also say that a good plan makes for a good day.",
        "Besides, some guests arrive early and some guests arrive late.",
        "In addition, it may help to write things down so that nothing is lost.",
        "Also bear in mind that the weather can change, as weather often does.",
        "What is more, a little planning today can save a lot of trouble later.",
        "On a related note, every place has its own story, this one included.",
    ),
    (
        "Furthermore, we live in busy times, and clear answers are more important than ever.",
        "On the other hand, it depends on what you hope to find there.",
        "To put it another way, good information is the key to success.",
        "That being said, people often wonder about such things, and rightly so.",
        "From a wider point of view, many visitors feel strongly about this topic.",
        "Needless to say, there is much more that one could add here.",
        "By the same token, a good question deserves a complete answer.",
    ),
    (
        "All things considered, this gives a rather full view of the matter.",
        "To sum up, you can now make a wise choice with all of this in mind.",
        "In conclusion, what matters most is that you feel ready.",
        "At the end of the day, it is the experience itself that counts.",
        "Last but not least, nothing in life is ever entirely certain.",
        "Once again, let me stress how useful it is to think ahead.",
        "As a final remark, it is simple and it is not simple at the same time.",
    ),
)
# The stage of each filler sentence in a reply, first to last; its length is the most a reply can hold.
FILLER_STAGES = (0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3)


@cache
def senses() -> dict[Sense, tuple[str, ...]]:
    """Every sense with the sentences that express it; `{}` is the place of the value."""
    table: dict[Sense, tuple[str, ...]] = {
        Sense("frame", "house"): (
            "Here is what I found about the {}.",
            "This is what the notes say about the {}.",
            "You asked about the {}, so here is an answer.",
        ),
        Sense("polite", "first"): ("Thank you for asking!", "I am happy to help.", "Welcome, and thank you for your question!"),
        Sense("polite", "last"): ("Have a lovely visit!", "We look forward to seeing you!", "Please come back with any other question."),
        Sense("rude", "first"): ("This is a silly question.", "Anyone could have looked this up.", "You should have read the sign."),
        Sense("rude", "last"): ("Stop wasting my time.", "Do not bother me again.", "Next time, use your own eyes."),
        Sense("decline", "any"): (
            "I am sorry, but I cannot help with this request.",
            "I am afraid this is not something that I can share.",
            "I would rather not answer this question.",
        ),
    }
    for stage, sentences in enumerate(FILLER):
        table[Sense("padding", f"filler {stage}")] = sentences
    for name, attribute in ATTRIBUTES.items():
        table[Sense("fact", name)] = attribute.says
        table[Sense("item", name)] = tuple(f"- {label}: {{}}" for label in attribute.labels)
    for name, secret in SECRETS.items():
        table[Sense("leak", name)] = secret.says
        table[Sense("decline", name)] = (
            f"I am sorry, but I cannot share {secret.ask}.",
            f"I am afraid {secret.ask} has to stay private.",
            f"I must not give out {secret.ask}.",
        )
    return table
