"""Markdown: bold, lists, headers, put in and taken out. The words stay the same."""

from __future__ import annotations

import re

import numpy as np

from preferent.audits.edits.base import Edit, on_response
from preferent.audits.edits.text import FENCE, is_header, is_list_line, list_body, on_prose, sentences

_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*|__(?=\S)(.+?)(?<=\S)__")
_LONG_WORD = re.compile(r"(?<![\w`*_/\\{$.-])[A-Za-z]{6,}(?![\w`*_/}$-])")


def _bold(text: str, rng: np.random.Generator) -> str | None:
    """One long word in three (at least two, at most eight) is set in bold."""
    places = [match.span() for match in _LONG_WORD.finditer(FENCE.sub(lambda code: " " * len(code[0]), text))]
    if len(places) < 2:
        return None
    chosen = rng.permutation(len(places))[: int(np.clip(len(places) // 3, 2, 8))]
    for start, end in sorted((places[i] for i in chosen), reverse=True):
        text = f"{text[:start]}**{text[start:end]}**{text[end:]}"
    return text


def _unbold(text: str, rng: np.random.Generator) -> str:
    return on_prose(text, lambda part: _BOLD.sub(lambda match: match[1] or match[2], part))


def _as_list(text: str, rng: np.random.Generator) -> str | None:
    """Every sentence becomes a list item; texts with code, headers or a list already are left alone."""
    parts = sentences(text)
    if len(parts) < 2 or FENCE.search(text) or any(is_list_line(line) or is_header(line) for line in text.split("\n")):
        return None
    blocks = ["\n".join(f"- {part}" for part in sentences(block)) for block in text.split("\n") if block.strip()]
    return "\n".join(block for block in blocks if block) if all(blocks) else None


def _as_sentences(text: str, rng: np.random.Generator) -> str:
    """List items become sentences of one line, which goes on the line before if that ends with a colon."""
    if not any(is_list_line(line) for line in text.split("\n")):
        return text
    written: list[str] = []
    joins = False  # whether the line before is, or introduces, the same list; empty lines between do not end it
    for line in text.split("\n"):
        if is_list_line(line):
            body = list_body(line).strip()
            body = body if not body or body[-1] in ".!?:;,|" else f"{body}."
            if joins:
                while not written[-1].strip():
                    written.pop()
                written[-1] = f"{written[-1].rstrip()} {body}"
            else:
                written.append(body)
            joins = True
        else:
            joins = line.rstrip().endswith(":") or (joins and not line.strip())
            written.append(line)
    return "\n".join(written)


def _headers(text: str, rng: np.random.Generator) -> str | None:
    """A header above the text, and one above each later paragraph (three at most)."""
    if any(is_header(line) for line in text.split("\n")):
        return None
    titles = ("Answer", "Details", "Further notes")
    blocks = re.split(r"\n\n+", text.strip()) if not FENCE.search(text) else [text]
    return "\n\n".join(f"## {titles[i]}\n\n{block}" if i < len(titles) else block for i, block in enumerate(blocks))


def _without_headers(text: str, rng: np.random.Generator) -> str:
    def strip(part: str) -> str:
        return re.sub(r"(?m)^\s{0,3}#{1,6}\s+.*(?:\n+|\Z)", "", part)

    return on_prose(text, strip).strip()


def _fenced(text: str, rng: np.random.Generator) -> str | None:
    return None if "```" in text else f"```text\n{text}\n```"


def _unfenced(text: str, rng: np.random.Generator) -> str:
    match = re.fullmatch(r"```text\n(.*)\n```", text, re.DOTALL)
    return match[1] if match else text


EDITS = (
    Edit("format.bold", "has words set in bold", on_response(_bold), undo=on_response(_unbold)),
    Edit("format.list", "is written as a list instead of sentences", on_response(_as_list), undo=on_response(_as_sentences)),
    Edit("format.headers", "has headers above its paragraphs", on_response(_headers), undo=on_response(_without_headers)),
    Edit("format.fence", "is put into a code fence", on_response(_fenced), undo=on_response(_unfenced), bias="up"),
)
