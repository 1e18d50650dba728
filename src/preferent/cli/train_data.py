"""What `preferent train` trains on: files past the gate, split by prompt; judgments aggregated or as votes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preferent.cli.judged import is_judgments, read_judged
from preferent.core.errors import ConfigError
from preferent.core.records import Preference, Ranking, Vote
from preferent.data.formats.detect import Format
from preferent.data.gate import Checked, check
from preferent.data.ledger import Ledger
from preferent.training.config import Joint, TrainConfig


@dataclass(frozen=True)
class Reading:
    """How to read, as the command line says it."""

    output: Path
    held_out_file: str | None
    comparisons: Path | None
    data_format: Format
    strict: bool


@dataclass(frozen=True)
class TrainingData:
    """What a run gets; `notes` are said before it starts."""

    records: Sequence[Preference | Ranking | Vote]
    held_out: Sequence[Preference | Ranking]
    ledger: Ledger
    notes: tuple[str, ...]


def read_training_data(sources: Sequence[str], config: TrainConfig, reading: Reading, *, main: bool) -> TrainingData:
    """Read, check and split; `main`: whether this process is the one that writes."""
    if is_judgments(sources):
        judged = read_judged(sources, reading.comparisons, config, _beside(reading.output, main), strict=reading.strict)
        records, held_out, notes = _split(judged.checked, config, reading)
        kept = judged.votes_on(records) if isinstance(config.votes, Joint) else records
        return TrainingData(kept, held_out, judged.checked.ledger, (*judged.told, *notes))
    if reading.comparisons is not None:
        raise ConfigError("--comparisons goes with judgments (comparison_id, annotator_id, choice), and FILE holds none")
    checked = check(list(sources), format=reading.data_format, strict=reading.strict)
    records, held_out, notes = _split(checked, config, reading)
    return TrainingData(records, held_out, checked.ledger, tuple(notes))


def _beside(output: Path, main: bool) -> Path:
    """Where the soft preferences made of judgments go: beside the folder of the run, for one process; elsewhere for the others."""
    name = f"{output.name}.preferences.jsonl"
    return output.with_name(name) if main else Path(tempfile.mkdtemp(), name)


def _split(checked: Checked, config: TrainConfig, reading: Reading) -> Any:
    """(training records, held-out records, notes)."""
    from preferent.data.splits import split_by_prompt

    records = list(checked.records())
    held_out_file = reading.held_out_file
    if held_out_file is not None:
        other = check(held_out_file, format=reading.data_format, strict=reading.strict)
        held_out = list(other.records())
        seen = {record.prompt for record in records}
        both = len({record.prompt for record in held_out} & seen)
        notes = [f"held out: {len(held_out)} records of {held_out_file}"]
        if both:
            notes.append(f"warning: {both} prompts of {held_out_file} are also in the training data; held-out figures will flatter")
        return records, held_out, notes
    if config.held_out == 0:
        return records, [], []
    groups = None if config.group_key is None else [_group(record, config.group_key) for record in records]
    out_N = split_by_prompt([record.prompt for record in records], held_out=config.held_out, seed=config.seed, groups=groups)
    kept = [record for record, out in zip(records, out_N, strict=True) if not out]
    held_out = [record for record, out in zip(records, out_N, strict=True) if out]
    note = f"held out: {len(held_out)} of {len(records)} records, by {config.group_key or 'prompt'}"
    return kept, held_out, [note]


def _group(record: Any, key: str) -> Any:
    if key not in record.meta:
        raise ConfigError(
            f"--group-key {key!r}: the record {record.id!r} has no such key in its meta; it has {sorted(record.meta)}",
            hint="every record needs the key, or the split would leak",
        )
    return str(record.meta[key])
