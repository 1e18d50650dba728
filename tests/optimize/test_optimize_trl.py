"""The reward function for TRL: its formats become exchanges, its calling convention is kept, and TRL itself accepts it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from preferent.core.errors import DataError
from preferent.core.records import Exchange, Message, Scores, user
from preferent.core.scorer import FakeScorer, length_scorer
from preferent.optimize.trl import TrlReward, exchanges


class Doubtful:
    """A scorer that pickles: the length, half of it as its standard deviation, and no number for an empty response."""

    name = "my model/v2"

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        length_N = np.array([float(len(one.response)) for one in exchanges])
        return Scores(np.where(length_N > 0, length_N, np.nan), std=length_N / 2)


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_standard_texts() -> None:
    assert exchanges(["p", "q"], ["one", "two"]) == [
        Exchange(prompt=user("p"), response="one"),
        Exchange(prompt=user("q"), response="two"),
    ]


def test_conversations_keep_every_turn() -> None:
    parts = [{"type": "text", "text": "go"}]
    prompt = [said("developer", "be brief"), said("user", "hello"), said("assistant", "yes?"), said("user", parts)]
    (found,) = exchanges([prompt], [[said("assistant", "gone")]])
    assert found.response == "gone"
    assert [(turn.role, turn.content) for turn in found.prompt] == [
        ("system", "be brief"),
        ("user", "hello"),
        ("assistant", "yes?"),
        ("user", "go"),
    ]


def test_what_a_tool_said_belongs_to_the_prompt() -> None:
    completion = [{"role": "assistant", "content": None, "tool_calls": []}, said("tool", "42"), said("assistant", "It is 42.")]
    (found,) = exchanges([[said("user", "how much?")]], [completion])
    assert found.response == "It is 42."
    assert found.prompt[1:] == (Message(role="assistant", content=""), Message(role="tool", content="42"))


@pytest.mark.parametrize(
    ("prompts", "completions", "says"),
    [
        (["p"], ["a", "b"], "1 prompts and 2 completions"),
        (["p"], [[said("user", "x")]], "row 0 ends with 'user'"),
        (["p"], [[]], "row 0 ends with nothing"),
        (["p", [said("robot", "x")]], ["a", "b"], "row 1 has a message of role 'robot'"),
        ([[said("user", [{"type": "image"}])]], ["a"], "row 0 has a part of type 'image'"),
        ([[said("user", 7)]], ["a"], "row 0 has content of type int"),
    ],
)
def test_what_is_not_the_format_is_named(prompts: list[Any], completions: list[Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        exchanges(prompts, completions)


def test_called_as_trl_calls() -> None:
    logged: dict[str, float] = {}
    reward = TrlReward(Doubtful())
    found = reward(
        prompts=["p", "p", "q"],
        completions=["abcd", "", "ab"],
        completion_ids=[[1], [], [2]],
        answer=["x", "x", "y"],
        trainer_state=object(),
        log_extra=lambda column, values: None,
        log_metric=logged.__setitem__,
    )
    assert found == [4.0, None, 2.0]
    assert all(type(value) is float for value in found if value is not None)
    assert logged == {"my_model_v2/not_finite": pytest.approx(1 / 3), "my_model_v2/std": 1.0}


def test_called_as_the_asynchronous_trainer_calls() -> None:
    # From another process, without the logging functions.
    reward = pickle.loads(pickle.dumps(TrlReward(Doubtful(), name="helpful")))
    assert reward.__name__ == "helpful"
    assert reward(prompts=["p"], completions=["abc"], completion_ids=[[1]]) == [3.0]


def test_names_for_the_log() -> None:
    assert TrlReward(length_scorer()).__name__ == "length"
    assert TrlReward(FakeScorer(lambda one: 0.0, name="/models/my rm/")).__name__ == "models_my_rm"


@pytest.mark.filterwarnings("ignore")
def test_trl_itself_takes_it(tmp_path: Any) -> None:
    """One step of GRPO on each format: the reward that TRL logs is the scorer's, under the scorer's name."""
    pytest.importorskip("trl", reason="the extra `rl` is not installed")
    import datasets
    from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportMissingImports]

    from preferent.cli.lab_rl_writer import new_writer, save, word_tokenizer

    tokenizer = word_tokenizer(["one two three four"])
    save(new_writer(tokenizer, width=16, layers=1, seed=0), tokenizer, tmp_path / "policy")
    for prompts in (["one two", "three"], [[said("user", "one two")], [said("user", "three")]]):
        seen: list[Exchange] = []

        def rule(one: Exchange, seen: list[Exchange] = seen) -> float:
            seen.append(one)
            return 3.0 if one.prompt == user("three") else 1.0

        trainer = GRPOTrainer(
            str(tmp_path / "policy"),
            reward_funcs=TrlReward(FakeScorer(rule, name="planted")),
            args=GRPOConfig(
                output_dir=str(tmp_path / "run"),
                max_steps=1,
                per_device_train_batch_size=4,
                num_generations=2,
                max_completion_length=4,
                logging_steps=1,
                report_to="none",
                save_strategy="no",
                bf16=False,
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
        )
        trainer.train()
        assert {one.prompt for one in seen} == {user("one two"), user("three")}
        assert len(seen) == 4
        assert trainer.state.log_history[0]["rewards/planted/mean"] == pytest.approx(2.0)
