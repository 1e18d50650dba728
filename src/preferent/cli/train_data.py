"""What `preferent train` trains on: files past the gate, split by prompt; judgments aggregated or as votes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preferent.cli.augmenting import augmented, group_of, refuse_augment, words
from preferent.cli.inputs import Reading
from preferent.cli.judged import is_judgments, read_judged
from preferent.core.augmented import is_made
from preferent.core.errors import ConfigError
from preferent.core.records import Preference, Ranking, Rating, Vote
from preferent.data.augment import without_made
from preferent.data.gate import Checked
from preferent.data.ledger import Ledger
from preferent.data.ratings import CheckedAll, check_all
from preferent.data.ratings_ledger import MixedLedger, RatingLedger
from preferent.training.config import Joint, NoAugment, TrainConfig


@dataclass(frozen=True)
class TrainingData:
    """What a run gets; `notes` are said before it starts."""

    records: Sequence[Preference | Ranking | Rating | Vote]
    held_out: Sequence[Preference | Ranking | Rating]
    ledger: Ledger | RatingLedger | MixedLedger
    notes: tuple[str, ...]


def read_training_data(sources: Sequence[str], config: TrainConfig, reading: Reading, *, main: bool) -> TrainingData:
    """Read, check and split; `main`: whether this process is the one that writes."""
    _refuse_augment(config)
    if is_judgments(sources):
        judged = read_judged(sources, reading, config, _beside(reading.output, main))
        records, held_out, notes = _split(judged.checked, config, reading)
        if isinstance(config.votes, Joint):
            return TrainingData(judged.votes_on(records), held_out, judged.checked.ledger, (*judged.told, *notes))
        records, made = _augmented(records, config)
        return TrainingData(records, held_out, judged.checked.ledger, (*judged.told, *notes, *made))
    if reading.comparisons is not None:
        raise ConfigError("--comparisons goes with judgments (comparison_id, annotator_id, choice), and FILE holds none")
    checked = check_all(list(sources), format=reading.data_format, strict=reading.strict)
    records, held_out, notes = _split(checked, config, reading)
    records, made = _augmented(records, config)
    return TrainingData(records, held_out, checked.ledger, (*notes, *made))


def _beside(output: Path, main: bool) -> Path:
    """Where the soft preferences made of judgments go: beside the folder of the run, for one process; elsewhere for the others."""
    name = f"{output.name}.preferences.jsonl"
    return output.with_name(name) if main else Path(tempfile.mkdtemp(), name)


def _refuse_augment(config: TrainConfig) -> None:
    """ConfigError for an augmentation that cannot be."""
    if isinstance(config.votes, Joint) and not isinstance(config.augment, NoAugment):
        raise ConfigError(
            f"augment.kind {config.augment.kind!r} goes with votes.kind 'aggregated': a row that a program made is nobody's vote"
        )
    refuse_augment(config.augment)


def _augmented(records: list[Any], config: TrainConfig) -> tuple[list[Any], list[str]]:
    """The training part with the rows made from it, which are never held out; and what to say of them."""
    if isinstance(config.augment, NoAugment):
        return records, []
    made = augmented(records, config.augment, seed=config.seed, group_key=config.group_key)
    return [*records, *made.added], words(made)


def _split(checked: Checked | CheckedAll, config: TrainConfig, reading: Reading) -> Any:
    """(training records, held-out records, notes). Rows that `preferent augment` made are not held out, and do not carry a held-out
    response into training."""
    records, held_out, notes = _parted(checked, config, reading)
    if not held_out or not any(is_made(record) for record in (*records, *held_out)):
        return records, held_out, notes
    records, held_out, left = without_made(records, held_out)
    notes = [*notes, f"rows made by an augmentation: {left['held out']} not held out, {left['with a held-out response']} not trained on"]
    if not held_out:
        raise ConfigError("only rows made by an augmentation would be held out", hint="hold out rows that people labelled: split first")
    return records, held_out, notes


def _parted(checked: Checked | CheckedAll, config: TrainConfig, reading: Reading) -> Any:
    """(training records, held-out records, notes) as the file has them."""
    from preferent.data.splits import split_by_prompt

    records = list(checked.records())
    held_out_file = reading.held_out_file
    if held_out_file is not None:
        other = check_all(held_out_file, format=reading.data_format, strict=reading.strict)
        held_out = list(other.records())
        seen = {record.prompt for record in records}
        both = len({record.prompt for record in held_out} & seen)
        notes = [f"held out: {len(held_out)} records of {held_out_file}"]
        if both:
            notes.append(f"warning: {both} prompts of {held_out_file} are also in the training data; held-out figures will flatter")
        return records, held_out, notes
    if config.held_out == 0:
        return records, [], []
    groups = None if config.group_key is None else [group_of(record, config.group_key) for record in records]
    out_N = split_by_prompt([record.prompt for record in records], held_out=config.held_out, seed=config.seed, groups=groups)
    kept = [record for record, out in zip(records, out_N, strict=True) if not out]
    held_out = [record for record, out in zip(records, out_N, strict=True) if out]
    note = f"held out: {len(held_out)} of {len(records)} records, by {config.group_key or 'prompt'}"
    return kept, held_out, [note]
