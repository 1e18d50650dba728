"""A model card from the numbers of the audit: the README.md of a checkpoint.

The last line holds a hash of what is above it, so that a card that nobody touched can be renewed and a hand-written one is never lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from preferent.audits.audit import Audit
from preferent.audits.audit_words import display_name, method_lines, verdict_lines
from preferent.audits.text import interval_text, number
from preferent.core.errors import ExistsError
from preferent.core.estimates import Estimate

MARK = "<!-- written by preferent audit --card from the audit's numbers; sha256 of the text above: "
# Aliases of the package that are models on the hub.
HUB = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
EXAMPLE = """\
```python
from preferent import RewardModel
from preferent.core.records import Exchange, user

model = RewardModel.load({path!r})
model.score([Exchange(prompt=user("How do I boil an egg?"), response="Eight minutes in boiling water.")]).reward
```"""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the checkpoint's own `preferent.json` says. data: its `data` entry, with the fingerprint; metrics: numbers of its training run;
    temperature: None when it was not calibrated."""

    name: str
    base: str
    version: str
    max_length: int
    temperature: float | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def model_card(facts: CardFacts, found: Audit) -> str:
    """The text of README.md: front matter for the hub, what it is, what the audit found, what it was trained on, how to use it."""
    parts = [_front_matter(facts, found), f"# {facts.name}", _what(facts)]
    parts += ["## What the audit found", *verdict_lines(found), _findings(found), _numbers(found)]
    parts += ["## How this was measured", "\n".join(f"- {line}" for line in method_lines(found))]
    parts += ["## Training data", _data(facts.data)]
    parts += ["## Use", EXAMPLE.format(path=facts.name), _use(facts)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return f"{text}\n{MARK}{_digest(text)} -->\n"


def write_model_card(folder: Path, text: str, *, force: bool = False) -> Path:
    """Write README.md into the checkpoint's folder, whole or not at all. A card that `model_card` wrote and nobody changed is renewed; any
    other file raises ExistsError unless `force`."""
    path = folder / "README.md"
    refuse_card(folder, force=force)
    part = path.with_name(".README.md.part")
    part.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(part, path)
    return path


def refuse_card(folder: Path, *, force: bool) -> None:
    """Raises ExistsError where `write_model_card` would: to be asked before the work."""
    path = folder / "README.md"
    if path.exists() and not force and not untouched(path.read_text(encoding="utf-8", errors="replace")):
        raise ExistsError(f"{path} exists and was not written by --card, or was changed since", hint="--force overwrites it")


def untouched(text: str) -> bool:
    """Whether a README is as `model_card` wrote it."""
    found = re.search(re.escape(MARK) + r"([0-9a-f]{64}) -->\s*\Z", text)
    return found is not None and _digest(text[: found.start()].removesuffix("\n")) == found[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _front_matter(facts: CardFacts, found: Audit) -> str:
    """YAML that the hub reads; every value is JSON, which YAML contains."""
    rows: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["reward-model", "preferent"],
    }
    base = HUB.get(facts.base, facts.base)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        rows["base_model"] = base
    if "fingerprint" in facts.data:
        rows["dataset_fingerprint"] = facts.data["fingerprint"]
    accuracy = _accuracy(found)
    if accuracy is not None:
        metric = {"type": "accuracy", "value": round(accuracy.value, 4), "name": f"pairwise accuracy {interval_text(accuracy)}"}
        task = {"type": "text-classification", "name": "preference ranking"}
        result = {"task": task, "dataset": {"type": "preferences", "name": found.source}, "metrics": [metric]}
        rows["model-index"] = [{"name": facts.name, "results": [result]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in rows.items()]
    return "\n".join(["---", *lines, "---"])


def _accuracy(found: Audit) -> Estimate | None:
    line = next((line for line in found.findings if (line.audit, line.name) == ("calibration", "accuracy")), None)
    return None if line is None or np.isnan(line.estimate.value) else line.estimate


def _what(facts: CardFacts) -> str:
    calibrated = (
        f"P(a preferred) = sigmoid((reward of a - reward of b) / {facts.temperature:.4g})."
        if facts.temperature is not None
        else "It was not calibrated: the difference of two rewards orders replies and is no probability."
    )
    return (
        f"A reward model: it gives a reply to a prompt one number, higher is better, for texts of up to {facts.max_length:,} tokens. Base: "
        f"{HUB.get(facts.base, facts.base)}. Rewards compare replies to one prompt; their level between prompts means nothing. {calibrated}"
    )


def _findings(found: Audit) -> str:
    if not found.bad:
        return ""
    rows = [
        f"| {_plain(display_name(line))} | {number(line.estimate.value)} {interval_text(line.estimate)} | {_plain(line.compared_with)} "
        f"| {line.severity:.2f} |"
        for line in found.bad
    ]
    return "\n".join(["| finding | estimate | held against | severity |", "|---|---|---|---|", *rows])


def _numbers(found: Audit) -> str:
    rows = [
        f"| {_plain(name)} | {number(estimate.value)} {interval_text(estimate)} | {estimate.n:,} |"
        for answer in found.answers
        for name, estimate in answer.numbers
        if not np.isnan(estimate.value)
    ]
    return "\n".join(["| number | value | n |", "|---|---|---|", *dict.fromkeys(rows)]) if rows else ""


def _data(data: Mapping[str, Any]) -> str:
    if not data:
        return "Not known: the checkpoint carries no record of its data."
    return "\n".join(f"- {key.replace('_', ' ')}: {_value(value)}" for key, value in data.items())


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f"`{text}`" if len(text) <= 200 else f"`{text[:200]}` …"


def _use(facts: CardFacts) -> str:
    return (
        "It also loads in transformers as `AutoModelForSequenceClassification` with one output. It judges texts and nothing else: a policy "
        "that is optimised against it will find what the audit found, and what it did not. "
        f"(Checkpoint of preferent {facts.version}.)"
    )


def _plain(text: str) -> str:
    """A cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
