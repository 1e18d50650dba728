"""Which heads the data and the settings ask for: one per objective, how they become one reward, and on which scale each is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Preference, Ranking, Rating, Vote
from preferent.models.objectives import Combination, CostConstraint, FittedWeights, FixedWeights, HeadsSpec, Objective, PromptGate
from preferent.training.config import Auto, Constraint, Fitted, Fixed, Gate, Odin, Single, TrainConfig
from preferent.training.groups import Column

Record = Preference | Ranking | Rating | Vote
# The one head of a model without named objectives, where decorrelation needs it.
REWARD = "reward"


@dataclass(frozen=True, slots=True)
class Plan:
    """The heads of a run. spec: None for the model's own one output. shape: overall preferences also change the objectives. scaled: the
    columns (0 to K, K is the reward) whose comparisons are made on a scale of their own, since ratings or a softmax fix that of the
    values. note: what was decided, in a sentence; empty where there was nothing to decide."""

    spec: HeadsSpec | None = None
    shape: bool = True
    scaled: tuple[int, ...] = ()
    note: str = ""

    @property
    def columns(self) -> dict[str, Column]:
        """Where each objective lies among the values."""
        given = self.spec.objectives if self.spec is not None else ()
        return {item.name: Column(index, item.mean, item.sd) for index, item in enumerate(given)}


@dataclass
class _Labels:
    """What the training data say of each objective, and of the whole."""

    ratings: dict[str, list[float]] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)
    overall: int = 0

    def add(self, record: Record) -> None:
        if isinstance(record, Rating):
            for name, value in record.values.items():
                self.ratings.setdefault(name, []).append(value)
        elif isinstance(record, Ranking) or record.objective is None:
            self.overall += 1
        else:
            self.pairs[record.objective] = self.pairs.get(record.objective, 0) + 1

    @property
    def names(self) -> list[str]:
        return sorted({*self.ratings, *self.pairs})


def plan_heads(records: Iterable[Record], config: TrainConfig) -> Plan:
    """The heads for these training records under these settings.

    Without named objectives: none, or one named "reward" under decorrelation. With them `combination.kind = "auto"` makes one head
    each, with weights fitted where there are overall preferences or rankings, and equal weights otherwise. The scale of an objective's
    ratings is theirs over all training records: mean 0 and variance 1. Raises DataError and ConfigError for settings that do not fit
    the records.
    """
    labels = _Labels()
    for record in records:
        labels.add(record)
    names, kind, odin = labels.names, config.combination, isinstance(config.decorrelation, Odin)
    if isinstance(kind, Single) and names:
        raise DataError(
            f"the data name objectives ({', '.join(names)}) and combination.kind is 'single'",
            hint="combination.kind = 'auto' gives each a head; take the objectives out of the data to train one number on all of it",
        )
    if not names:
        return _unnamed(config, labels, odin=odin)
    objectives = tuple(_objective(name, labels) for name in names)
    combination = _combination(kind, objectives, labels)
    spec = HeadsSpec(objectives=objectives, combination=combination, lengths=odin)
    shape = kind.shape if isinstance(kind, Fitted | Gate) else isinstance(combination, FixedWeights | CostConstraint)
    counts = ", ".join(_counted(item) for item in objectives)
    note = f"{len(names)} objectives, one head each: {counts}; {_said(combination, labels)}"
    return Plan(spec, shape, _scaled(spec, labels), note)


def _unnamed(config: TrainConfig, labels: _Labels, *, odin: bool) -> Plan:
    """No objective is named: one number, with a head of our own only where something needs it."""
    if not isinstance(config.combination, Auto | Single):
        raise DataError(
            f"combination.kind is {config.combination.kind!r}, and no record names an objective",
            hint="ratings, or preferences with an `objective`, name them",
        )
    if not odin:
        return Plan()
    objective = Objective(name=REWARD, n_pairs=labels.overall)
    return Plan(HeadsSpec(objectives=(objective,), combination=FixedWeights(weights=(1.0,)), lengths=True))


def _objective(name: str, labels: _Labels) -> Objective:
    rated = labels.ratings.get(name, [])
    pairs = labels.pairs.get(name, 0)
    if not rated:
        return Objective(name=name, n_pairs=pairs)
    mean, sd = float(np.mean(rated)), float(np.std(rated))
    if not sd > 1e-9 * max(1.0, abs(mean)):
        raise DataError(
            f"all {len(rated)} training ratings of {name!r} are {rated[0]:g}: there is nothing to learn from them",
            hint="leave the objective out, or add ratings that differ",
        )
    return Objective(name=name, mean=mean, sd=sd, n_ratings=len(rated), n_pairs=pairs)


def _combination(kind: Auto | Single | Fixed | Fitted | Gate | Constraint, objectives: Sequence[Objective], labels: _Labels) -> Combination:
    if isinstance(kind, Auto):
        kind = Fitted() if labels.overall and len(objectives) > 1 else Fixed()
    if isinstance(kind, Fitted | Gate):
        if not labels.overall:
            raise DataError(
                f"combination.kind {kind.kind!r} learns weights from overall preferences, and every record names an objective",
                hint="add preferences without an objective (or rankings), or state weights: combination.kind = 'fixed'",
            )
        return FittedWeights(signs=kind.signs) if isinstance(kind, Fitted) else PromptGate(hidden=kind.hidden)
    assert not isinstance(kind, Single)
    if isinstance(kind, Fixed):
        return FixedWeights(weights=_weights(kind.weights, objectives, cost=None))
    cost = next((item for item in objectives if item.name == kind.cost), None)
    if cost is None or not cost.n_ratings or len(objectives) < 2:
        rated = [item.name for item in objectives if item.n_ratings]
        raise ConfigError(
            f"combination.cost is {kind.cost!r}, rated objectives of the data are: {', '.join(rated) or 'none'}",
            hint="the budget is in units of the cost's ratings, so it must be rated; and a second objective is needed to weigh against it",
        )
    return CostConstraint(weights=_weights(kind.weights, objectives, cost=kind.cost), cost=kind.cost, budget=kind.budget)


def _weights(stated: str | tuple[str, ...], objectives: Sequence[Objective], *, cost: str | None) -> tuple[float, ...]:
    """For standard values; 0 at the cost."""
    names = [item.name for item in objectives if item.name != cost]
    parts = [part for part in ((stated,) if isinstance(stated, str) else stated) if part]
    if not parts:
        return tuple(0.0 if item.name == cost else 1.0 / len(names) for item in objectives)
    given: dict[str, float] = {}
    for part in parts:
        name, _, number = part.partition("=")
        try:
            given[name.strip()] = float(number)
        except ValueError:
            raise ConfigError(f"combination.weights: {part!r}, allowed: objective=number", hint=f"as in {names[0]}=0.5") from None
    if set(given) != set(names) or not all(np.isfinite(list(given.values()))):
        raise ConfigError(
            f"combination.weights names {', '.join(sorted(given))}; the objectives to weigh are {', '.join(names)}",
            hint="state a finite weight for each of them, 0 to leave one out",
        )
    return tuple(0.0 if item.name == cost else given[item.name] * item.sd for item in objectives)


def _scaled(spec: HeadsSpec, labels: _Labels) -> tuple[int, ...]:
    """Columns that are compared and whose scale something else has fixed."""
    found = [index for index, item in enumerate(spec.objectives) if item.n_ratings and item.n_pairs]
    rated = any(item.n_ratings for item in spec.objectives)
    if labels.overall and (isinstance(spec.combination, PromptGate) or (rated and not isinstance(spec.combination, FittedWeights))):
        found.append(len(spec.objectives))
    return tuple(found)


def _counted(item: Objective) -> str:
    parts = [f"{n} {word}" for n, word in ((item.n_ratings, "ratings"), (item.n_pairs, "comparisons")) if n]
    return f"{item.name} ({', '.join(parts)})"


def _said(combination: Combination, labels: _Labels) -> str:
    overall = f"{labels.overall} overall preferences"
    if isinstance(combination, FittedWeights):
        return f"their weights are fitted to {overall}"
    if isinstance(combination, PromptGate):
        return f"a gate on the prompt weighs them, fitted to {overall}"
    if isinstance(combination, CostConstraint):
        return f"the reward keeps the mean {combination.cost} within {combination.budget:g}"
    return "their weights are fixed" + (f"; {overall} train them through their sum" if labels.overall else "")


def leave_out_unknown(records: Sequence[Record], plan: Plan) -> tuple[list[Record], int]:
    """Held-out records whose objectives were trained, and how many labels were left out since their objective was not."""
    known = plan.columns
    kept: list[Record] = []
    left = 0
    for record in records:
        if isinstance(record, Rating):
            values = {name: value for name, value in record.values.items() if name in known}
            left += len(record.values) - len(values)
            if values:
                kept.append(record if len(values) == len(record.values) else record.model_copy(update={"values": values}))
        elif isinstance(record, Ranking) or record.objective is None or record.objective in known:
            kept.append(record)
        else:
            left += 1
    return kept, left
