"""preferent: from preferences to a reward model you can trust.

The names below are the public front. They are loaded when first used, so `import preferent` costs nothing: the nouns load no
torch, and `RewardModel`, `train` and `examine` load it when they are touched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preferent.annotators.aggregate import aggregate
    from preferent.annotators.table_read import read_votes
    from preferent.audits.audit import audit
    from preferent.audits.evaluate import evaluate
    from preferent.audits.judge_audit import audit_judge
    from preferent.core.errors import PreferentError
    from preferent.core.estimates import Estimate
    from preferent.core.records import Comparison, Exchange, Judgment, Message, Preference, Ranking, Rating, Scores, StepLabels
    from preferent.core.scorer import FakeScorer, Scorer
    from preferent.data.gate import check
    from preferent.models.doctor import examine
    from preferent.models.reward_model import RewardModel
    from preferent.optimize.best_of_n import best_of_n
    from preferent.training.config import TrainConfig
    from preferent.training.run import train

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Estimate",
    "Exchange",
    "FakeScorer",
    "Judgment",
    "Message",
    "Preference",
    "PreferentError",
    "Ranking",
    "Rating",
    "RewardModel",
    "Scorer",
    "Scores",
    "StepLabels",
    "TrainConfig",
    "__version__",
    "aggregate",
    "audit",
    "audit_judge",
    "best_of_n",
    "check",
    "evaluate",
    "examine",
    "read_votes",
    "train",
]

_HOMES = {
    "preferent.annotators.aggregate": ("aggregate",),
    "preferent.annotators.table_read": ("read_votes",),
    "preferent.audits.audit": ("audit",),
    "preferent.audits.evaluate": ("evaluate",),
    "preferent.audits.judge_audit": ("audit_judge",),
    "preferent.core.errors": ("PreferentError",),
    "preferent.core.estimates": ("Estimate",),
    "preferent.core.records": ("Comparison", "Exchange", "Judgment", "Message", "Preference", "Ranking", "Rating", "Scores", "StepLabels"),
    "preferent.core.scorer": ("FakeScorer", "Scorer"),
    "preferent.data.gate": ("check",),
    "preferent.models.doctor": ("examine",),
    "preferent.models.reward_model": ("RewardModel",),
    "preferent.optimize.best_of_n": ("best_of_n",),
    "preferent.training.config": ("TrainConfig",),
    "preferent.training.run": ("train",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name from its room on first use (PEP 562); MissingExtraError when what it stands on is not installed."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'preferent' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOME_OF[name]), name)
    except ModuleNotFoundError as error:
        from preferent.core.extras import missing_extra

        missing = missing_extra(error)
        if missing is None:
            raise
        raise missing from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
