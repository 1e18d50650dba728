"""A renderer counts and cuts as the training that follows it will, before any weights are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig, LlamaConfig, RobertaConfig

from preferent.models.backbones import input_limit, longest_input
from preferent.models.renderer import load_renderer
from preferent.models.reward_model import RewardModel


@pytest.mark.parametrize(("positions", "expected"), [(512, 512), (131_072, 1024)])
def test_the_limit_of_check_is_that_of_train(positions: int, expected: int, tmp_path: Path) -> None:
    base = RewardModel.create("tiny", texts=["one two three four five"] * 4)
    base.save(tmp_path / "base")
    (tmp_path / "base/preferent.json").unlink()
    config = AutoConfig.from_pretrained(tmp_path / "base")
    config.max_position_embeddings = positions
    config.save_pretrained(tmp_path / "base")
    assert load_renderer(str(tmp_path / "base")).max_length == expected
    assert RewardModel.create(str(tmp_path / "base")).card.render.max_length == expected


def test_positions_of_padding_are_not_counted() -> None:
    assert longest_input(RobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512
    assert longest_input(LlamaConfig(max_position_embeddings=2048)) == 2048
    assert input_limit("any", None) == 1024
