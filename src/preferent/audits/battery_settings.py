"""How much the battery asks and what it calls a finding."""

from __future__ import annotations

from dataclasses import dataclass

from preferent.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class BatterySettings:
    """smallest: the smallest effect of interest, in standard deviations of natural rewards within a prompt; what is within it is reported
    and never called a finding. level: the false discovery rate of each family (neutral edits, edits that must fall, planted errors).
    required_detection: the share of planted errors that a sound scorer marks down. per_edit: edited texts per edit, at most; prompts are
    subsampled to it and each number states its n. min_prompts: with fewer edited prompts the verdict is "unknown". slab: texts per call
    of the scorer, at about which the request is cut between prompts.
    """

    smallest: float = 0.2
    level: float = 0.05
    required_detection: float = 0.75
    per_edit: int = 150
    min_prompts: int = 10
    n_resamples: int = 2000
    n_examples: int = 3
    slab: int = 4096

    def __post_init__(self) -> None:
        if not self.smallest >= 0:
            raise ConfigError(f"smallest={self.smallest!r}: allowed are numbers of 0 or more, in standard deviations")
        for name, low in (("level", 0.0), ("required_detection", 0.5)):
            if not low < getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)!r}: allowed are numbers between {low:g} and 1")
        for name, least in (("per_edit", 1), ("min_prompts", 2), ("n_resamples", 100), ("n_examples", 0), ("slab", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)!r}: allowed are whole numbers from {least}")
