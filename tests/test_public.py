"""The public front says what it offers, offers what it says, and costs nothing until it is used."""

import inspect
import subprocess
import sys

import pytest

import preferent
from preferent.core.errors import MissingExtraError

# What users are promised, written out once more by hand: a name that goes away or moves is a decision, not an accident.
PROMISED = [
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


def test_all_is_sorted_and_is_what_was_promised():
    assert preferent.__all__ == sorted(preferent.__all__)
    assert preferent.__all__ == PROMISED


@pytest.mark.parametrize("name", PROMISED)
def test_every_name_is_importable_and_documented(name):
    value = getattr(preferent, name)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__module__.startswith("preferent.")
        assert inspect.getdoc(value)


def test_the_table_of_homes_the_list_and_the_typed_imports_name_the_same_things():
    homes = preferent._HOME_OF
    assert sorted([*homes, "__version__"]) == preferent.__all__
    source = inspect.getsource(preferent)
    for name, home in homes.items():
        lines = [line for line in source.splitlines() if line.startswith(f"    from {home} import ")]
        assert any(name in line.partition(" import ")[2].split(", ") for line in lines), f"{name} is not imported for type checkers"


def test_dir_lists_every_name():
    assert set(preferent.__all__) <= set(dir(preferent))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'preferent' has no attribute 'RewardModle'"):
        _ = preferent.RewardModle


def test_without_torch_the_nouns_work_and_a_model_names_the_extra():
    code = """
import sys
sys.modules["torch"] = None  # what Python does for a package that cannot be imported
import preferent
assert preferent.Exchange(prompt=(), response="x").response == "x"
try:
    preferent.RewardModel
except ImportError as error:
    print(type(error).__name__, "|", str(error).replace(chr(10), " | "))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == f"{MissingExtraError.__name__} | 'torch' is not installed | hint: pip install 'preferent[train]'", (
        done.stderr
    )


def test_importing_the_front_loads_none_of_the_rooms():
    code = (
        "import sys, preferent; print(sorted(m for m in sys.modules if m.startswith('preferent.') or m in ('torch', 'numpy', 'pydantic')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
