"""The experiments by name, and their settings from a TOML file: one that comes with the package, or one's own.

A file says `experiment = "..."` and whatever it sets differently from the defaults; see `builtin/`. Unknown settings are errors.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from preferent.core.errors import ConfigError
from preferent.core.settings import Settings, load_settings
from preferent.lab.experiments import annotator_cost, mitigations_outcome, over_optimisation_outcome, rl_outcome
from preferent.lab.experiments.annotator_cost import AnnotatorCost
from preferent.lab.experiments.mitigations import Mitigations
from preferent.lab.experiments.outcome import Outcome, Parts
from preferent.lab.experiments.over_optimisation import OverOptimisation
from preferent.lab.experiments.rl import ReinforcementLearning


@dataclass(frozen=True, slots=True)
class Experiment:
    """settings: the model that its TOML file is read into. run: from those and the parts to the outcome."""

    settings: type[Settings]
    run: Callable[[Any, Parts], Outcome]
    says: str


EXPERIMENTS: dict[str, Experiment] = {
    "over-optimisation": Experiment(OverOptimisation, over_optimisation_outcome.run, over_optimisation_outcome.TITLE),
    "rl": Experiment(ReinforcementLearning, rl_outcome.run, rl_outcome.TITLE),
    "mitigations": Experiment(Mitigations, mitigations_outcome.run, mitigations_outcome.TITLE),
    "annotators": Experiment(AnnotatorCost, annotator_cost.run, annotator_cost.TITLE),
}


def builtin() -> dict[str, str]:
    """Name -> first line of comment of every TOML file that comes with the package."""
    found = {}
    for file in sorted(files("preferent.lab.experiments").joinpath("builtin").iterdir(), key=lambda one: one.name):
        if file.name.endswith(".toml"):
            found[file.name.removesuffix(".toml")] = file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    return found


def load(name_or_path: str, overrides: Mapping[str, str] | None = None) -> tuple[str, Settings]:
    """(experiment, its settings) of a built-in name or of a path to a TOML file, with overrides (`seeds` -> "0,1") on top.

    Raises ConfigError for a name or path that is neither, a file without `experiment`, and settings that are unknown or not allowed.
    """
    if name_or_path in builtin():
        with as_file(files("preferent.lab.experiments").joinpath("builtin", f"{name_or_path}.toml")) as path:
            return _read(path, overrides)
    path = Path(name_or_path)
    if path.suffix != ".toml" or not path.is_file():
        near = difflib.get_close_matches(name_or_path, builtin(), n=1)
        raise ConfigError(
            f"{name_or_path!r} is neither a built-in experiment ({', '.join(builtin())}) nor a TOML file",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    return _read(path, overrides)


def _read(path: Path, overrides: Mapping[str, str] | None) -> tuple[str, Settings]:
    try:
        name = tomllib.loads(path.read_text(encoding="utf-8")).get("experiment")
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(str(name), EXPERIMENTS, n=1)
        what = "experiment is not set" if name is None else f"experiment is {name!r}"
        hint = f"did you mean {near[0]!r}?" if near else f'experiment = "{next(iter(EXPERIMENTS))}"'
        raise ConfigError(f"{path}: {what}, allowed: {', '.join(EXPERIMENTS)}", hint=hint)
    model = EXPERIMENTS[name].settings
    # One value of a list is a list of one: `seeds=3`.
    words = {
        key: f"[{word}]" if get_origin(field.annotation) is tuple and not word.startswith("[") else word
        for key, word in (overrides or {}).items()
        for field in [model.model_fields.get(key, FieldInfo())]
    }
    return str(name), load_settings(model, path, words)
