"""What a section of the annotator report is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from preferent.annotators.pair_ends import Pair
from preferent.audits.annotator_study import AnnotatorStudy
from preferent.audits.page import Figure, cut, painted, transcript
from preferent.audits.tables import Part
from preferent.audits.text import interval_text, number
from preferent.core.estimates import Estimate


@dataclass(frozen=True, slots=True)
class Article:
    """Two texts side by side under a heading."""

    heading: str
    where: str
    prompt: str
    one: dict[str, str]
    two: dict[str, str]
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A section: what it says, its figures, tables, texts side by side, and why something is missing."""

    anchor: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    no_figures: str = ""
    parts: list[Part] = field(default_factory=list)
    articles: list[Article] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def drawn(anchor: str, title: str, painters: list[tuple[str, Callable[[], str], str]]) -> Block:
    figures, why = painted(painters)
    return Block(anchor, title, figures=figures, no_figures=why)


def side_by_side(heading: str, where: str, pair: Pair | None, heads: tuple[str, str], below: tuple[str, ...] = ()) -> Article:
    prompt = "" if pair is None or pair.prompt is None else cut(transcript(pair.prompt))
    names = (f"{where}/a", f"{where}/b") if pair is None else (pair.a, pair.b)
    texts = (None, None) if pair is None else (pair.text_a, pair.text_b)
    sides = [
        {"head": head, "tail": f" {name}", "text": "(no text)" if text is None else cut(text) or "(empty)"}
        for head, name, text in zip(heads, names, texts, strict=True)
    ]
    return Article(heading, where, prompt, sides[0], sides[1], below)


def say_missing(block: Block, study: AnnotatorStudy, *parts: str) -> None:
    block.missing.extend(f"{part}: {study.skipped[part]}" for part in parts if part in study.skipped)


def with_interval(estimate: Estimate) -> str:
    return f"{number(estimate.value)} {interval_text(estimate)}"


def sentence(note: str) -> str:
    """A note with a capital and a full stop."""
    return f"{note[:1].upper()}{note[1:]}."
