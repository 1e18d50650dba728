"""A loss that stops being a number stops the run before it does harm, and the error names the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loop_worlds import losses, make_base, planted
from safetensors.torch import load_file, save_file

from preferent.core.errors import ConfigError, FitError, MissingExtraError, ModelError
from preferent.core.records import Preference, user
from preferent.models.reward_model import RewardModel
from preferent.training.config import load_config
from preferent.training.run import train

Base = Callable[..., str]


def poisoned_base(folder: Path, word: str) -> str:
    """A base whose embedding of one word is not a number, as in a damaged checkpoint."""
    from transformers import AutoTokenizer

    make_base(folder)
    token = AutoTokenizer.from_pretrained(folder)(" " + word)["input_ids"][-1]
    weights = load_file(folder / "model.safetensors")
    weights["embed_tokens.weight"][token] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def without(records: list[Preference], word: str) -> list[Preference]:
    def clean(text: str) -> str:
        return text.replace(word, "mat")

    return [
        record.model_copy(
            update={
                "prompt": user(clean(record.prompt[0].content)),
                "response_a": clean(record.response_a) + " sat",
                "response_b": clean(record.response_b),
            }
        )
        for record in records
    ]


def settings(base: str, **more: str) -> Any:
    given = {"base": base, "epochs": "1", "batch.pairs": "4", "order": "given", "save_every": "3"}
    return load_config(None, given | {key.replace("__", "."): value for key, value in more.items()})


def test_the_row_with_a_loss_that_is_no_number_is_named(tmp_path: Path) -> None:
    base, data = poisoned_base(tmp_path / "base", "house"), without(planted(40), "house")
    # The 18th row is in the fifth step, after the state of the third.
    data[17] = Preference(prompt=user("cat sat"), response_a="my house", response_b="my dog", p_a=1.0, id="bad")
    with pytest.raises(FitError, match="step 5: the loss is not a finite number on 1 rows: bad") as error:
        train(data, [], settings(base), tmp_path / "out")
    assert "last saved state is untouched" in str(error.value)
    states = [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()]
    assert states == ["step-00000003"]
    saved = load_file(tmp_path / "out" / "checkpoints" / "step-00000003" / "tensors.safetensors")
    finite = {name: bool(torch.isfinite(tensor).all()) for name, tensor in saved.items() if "embed" not in name}
    assert all(finite.values())
    assert [step for step, _ in losses(tmp_path / "out")] == [1, 2, 3, 4]


def test_the_held_out_row_is_named(tmp_path: Path) -> None:
    base, data, held_out = poisoned_base(tmp_path / "base", "house"), without(planted(40), "house"), without(planted(20, seed=1), "house")
    held_out[3] = Preference(prompt=user("cat sat"), response_a="my dog", response_b="my house", p_a=1.0)
    with pytest.raises(FitError, match="step 2: the held-out loss is not a finite number on 1 held-out rows: record 4"):
        train(data, held_out, settings(base, evaluate_every="2"), tmp_path / "out")


@pytest.mark.parametrize("loss", ["bradley_terry", "davidson", "rao_kupper", "plackett_luce"])
def test_weights_that_overflow_stop_the_run(base: Base, tmp_path: Path, loss: str) -> None:
    with pytest.raises(FitError, match=r"step [23]: the (loss is not a finite number|gradient is not finite).* r4"):
        train(planted(20), [], settings(base(), learning_rate="1e30", schedule="constant", loss__kind=loss), tmp_path / "out")
    assert not (tmp_path / "out" / "preferent.json").exists()


def test_many_rows_are_counted_not_all_listed(tmp_path: Path) -> None:
    base = poisoned_base(tmp_path / "base", "house")
    data = [record.model_copy(update={"response_a": record.response_a + " house"}) for record in without(planted(40), "house")]
    with pytest.raises(FitError, match="on 30 rows: r0, r1, r2, r3, r4, r5, r6, r7, r8, r9 and 20 more"):
        train(data, [], settings(base, batch__pairs="30"), tmp_path / "out")


def test_settings_and_bases_that_cannot_be_used(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="cannot load"):
        train(planted(4), [], settings(str(tmp_path / "no such base")), tmp_path / "out")
    # Nothing was written, so that the next try needs no --force.
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="fit no layer"):
        train(planted(4), [], settings(base(), adapter__kind="lora", adapter__targets="no_such_layer"), tmp_path / "out")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ConfigError, match="fp16"):
        train(planted(4), [], settings(base()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tracker_that_is_not_installed_is_an_error(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate would go on without it and not say so."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name.startswith(("tensorboard", "wandb")) else find(name, *more)
    )
    with pytest.raises(MissingExtraError, match="tensorboard"):
        train(planted(4), [], settings(base(), trackers="tensorboard"), tmp_path / "out")
    with pytest.raises(ConfigError, match="wandb"):
        train(planted(4), [], settings(base(), trackers="wandb"), tmp_path / "out")


def test_runs_with_other_settings_follow_each_other(base: Base, tmp_path: Path) -> None:
    """In one process, after a failure too: precision, threads, random state and the signal handler are as they were."""
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for number, precision in enumerate(("fp32", "bf16", "auto", "bf16")):
        output = tmp_path / str(number)
        if number == 2:
            with pytest.raises(FitError):
                train(planted(20), [], settings(base(), learning_rate="1e30"), tmp_path / "failed")
        train(planted(24), planted(20, seed=1), settings(base(), precision=precision, threads="1", learning_rate="5e-3"), output)
    assert torch.equal(torch.get_rng_state(), before)
    found = [[loss for _, loss in losses(tmp_path / str(number))] for number in range(4)]
    assert found[0] == found[2]
    assert found[1] == found[3]
    # Half precision was really in use, and close.
    assert found[0] != found[1]
    np.testing.assert_allclose(found[0], found[1], atol=0.02)
    # The weights and the head stay fp32.
    assert {tensor.dtype for tensor in load_file(tmp_path / "1" / "model.safetensors").values()} == {torch.float32}
    assert json.loads((tmp_path / "1" / "config.json").read_text())["dtype"] == "float32"
    RewardModel.load(tmp_path / "1").score([planted(1)[0].exchanges()[0]])
