"""The sketch of training prompts as a file beside the checkpoint: `prompts.sketch.npz`, hashes only (see `core.ngrams`)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from preferent.core.errors import DataError
from preferent.core.ngrams import Sketch, sketch_prompts
from preferent.core.records import Preference, Ranking, Rating, StepLabels, Vote
from preferent.data.write import replacing

SKETCH = "prompts.sketch.npz"
FORMAT = 1


def write_sketch(folder: str | Path, records: Iterable[Preference | Ranking | Rating | StepLabels | Vote]) -> Sketch:
    """Write the sketch of the prompts of `records` into `folder`, in place of one that is there; at most 16 MB. Returns it."""
    sketch = sketch_prompts(record.prompt for record in records)
    # savez would append ".npz" to a name; to an open file it writes as it is.
    with replacing(Path(folder) / SKETCH) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            format=np.int64(FORMAT),
            window=np.int64(sketch.window),
            n_prompts=np.int64(sketch.n_prompts),
            n_windows=np.int64(sketch.n_windows),
            whole=sketch.whole_H,
            windows=sketch.window_H,
            shares=np.array([sketch.whole_share, sketch.window_share]),
        )
    return sketch


def read_sketch(path: str | Path) -> Sketch:
    """The sketch in a file, or in a checkpoint folder. Raises DataError when there is none or it is damaged."""
    path = Path(path)
    path = path / SKETCH if path.is_dir() else path
    if not path.is_file():
        raise DataError(
            f"{path}: no sketch of training prompts",
            hint="checkpoints that `preferent train` wrote have one; others cannot be checked for contamination",
        )
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if int(file["format"]) != FORMAT:
                raise DataError(f"{path}: a sketch of format {int(file['format'])!r}; this preferent reads format {FORMAT}")
            whole_share, window_share = (float(share) for share in file["shares"])
            return Sketch(
                int(file["window"]),
                int(file["n_prompts"]),
                int(file["n_windows"]),
                file["whole"].astype(np.uint64, copy=False),
                file["windows"].astype(np.uint64, copy=False),
                whole_share,
                window_share,
            )
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a readable sketch: {error}", hint="the file is damaged; train again to have one") from error
