"""A finished model meets labelled data: length goes where it is spurious and stays where it is not; doubt and intervals are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from loop_worlds import WORDS, cats, text

from preferent.cli.main import preferent
from preferent.core.contracts import check_scorer
from preferent.core.errors import ConfigError, DataError, FitError, ModelError
from preferent.core.records import Exchange, Preference, Rating, user
from preferent.data.write import write_preferences
from preferent.models.ensembles import EnsembleSpec, Member
from preferent.models.intervals import find_interval, margin_interval, preference_interval, rating_interval
from preferent.models.reward_model import RewardModel
from preferent.training.config import load_config
from preferent.training.refine import Asked, refine
from preferent.training.run import train

Base = Callable[..., str]


WANTED = 0.15


def wordy(n: int, *, seed: int, wanted: float) -> list[Preference]:
    """Responses of 0 to 4 cats among 2 to 24 other words; labels by the number of cats plus `wanted` times the other words, with a slope
    of 2. Length says nothing about cats."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        counts = rng.integers([0, 2], [5, 25], size=(2, 2))
        a, b = (" ".join(rng.permutation(["cat"] * k + rng.choice(WORDS[1:], m).tolist())) for k, m in counts.tolist())
        margin = float((counts[0] - counts[1]) @ [1.0, wanted])
        p_a = float(rng.random() < 1.0 / (1.0 + np.exp(-2.0 * margin)))
        made.append(Preference(prompt=user(f"{number} {text(rng, 4)}"), response_a=a, response_b=b, p_a=p_a, id=f"w{number}"))
    return made


@pytest.fixture(scope="module")
def biased(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on labels that like long responses as well as cats."""
    folder = tmp_path_factory.mktemp("biased") / "run"
    settings = {"base": base(), "epochs": "5", "batch.pairs": "8", "learning_rate": "5e-3"}
    train(wordy(300, seed=0, wanted=WANTED), wordy(40, seed=9, wanted=WANTED), load_config(None, settings), folder)
    return folder


def accuracy(model: RewardModel, records: list[Preference]) -> float:
    reward = model.score([exchange for record in records for exchange in record.exchanges()]).reward.reshape(-1, 2)
    return float((np.sign(reward[:, 0] - reward[:, 1]) == np.sign([record.p_a - 0.5 for record in records])).mean())


def test_length_goes_where_trusted_labels_do_not_want_it(biased: Path, tmp_path: Path) -> None:
    model, raw = RewardModel.load(biased), RewardModel.load(biased)
    trusted, fresh = wordy(300, seed=1, wanted=0.0), wordy(300, seed=2, wanted=0.0)
    told = refine(model, trusted, [], Asked(length="auto"))
    spec = model.card.length
    assert spec is not None
    assert spec.applied
    assert spec.gate["gain"]["low"] > 0.0
    assert "length calibration is applied" in told[0]
    # On pairs that neither model nor gate have seen.
    assert accuracy(model, fresh) > accuracy(raw, fresh) + 0.05
    exchanges = [exchange for record in fresh for exchange in record.exchanges()]
    lengths = [len(exchange.response) for exchange in exchanges]
    before, after = (abs(np.corrcoef(scorer.score(exchanges).reward, lengths)[0, 1]) for scorer in (raw, model))
    assert before > 0.5
    assert after < 0.15
    model.save(tmp_path)
    again = RewardModel.load(tmp_path)
    np.testing.assert_array_equal(again.score(exchanges).reward, model.score(exchanges).reward)
    assert again.card.length == spec
    check_scorer(again, exchanges[:12])


def test_length_stays_where_people_want_it(biased: Path) -> None:
    model, raw, forced = (RewardModel.load(biased) for _ in range(3))
    labelled, fresh = wordy(300, seed=1, wanted=WANTED), wordy(300, seed=2, wanted=WANTED)
    told = refine(model, labelled, [], Asked(length="auto"))
    spec = model.card.length
    assert spec is not None
    assert not spec.applied
    assert spec.gate["gain"]["high"] < 0.0
    assert "not applied" in told[0]
    exchanges = [exchange for record in fresh for exchange in record.exchanges()]
    np.testing.assert_array_equal(model.score(exchanges).reward, raw.score(exchanges).reward)
    # What the gate has spared us: switched on, it harms, and the card says what the gate thought of it.
    refine(forced, labelled, [], Asked(length="on"))
    assert forced.card.length is not None
    assert forced.card.length.applied
    assert forced.card.length.reason.startswith("switched on; the gate says:")
    assert accuracy(forced, fresh) < accuracy(raw, fresh) - 0.05
    refine(forced, labelled, [], Asked(length="off"))
    assert forced.card.length is None


def test_the_last_layer_doubts_what_it_has_not_seen(biased: Path, tmp_path: Path) -> None:
    model = RewardModel.load(biased)
    refine(model, wordy(60, seed=1, wanted=WANTED), wordy(240, seed=0, wanted=WANTED), Asked(laplace=True))
    exchanges = [exchange for record in wordy(20, seed=2, wanted=WANTED) for exchange in record.exchanges()]
    scores = model.score(exchanges)
    assert scores.std is not None
    assert model.card.laplace is not None
    assert model.card.laplace.n_pairs == 240
    check_scorer(model, exchanges)
    model.save(tmp_path)
    again = RewardModel.load(tmp_path, reduction="mean-0.5var")
    found = again.score(exchanges)
    np.testing.assert_allclose(found.std, scores.std, rtol=1e-6)
    np.testing.assert_allclose(found.reward, scores.reward - 0.5 * scores.std**2, rtol=1e-6)
    with pytest.raises(ModelError, match="one model that states no uncertainty"):
        RewardModel.load(tmp_path, reduction="worst")
    # Saved without it, nothing is left behind.
    model.laplace = None
    model.save(tmp_path, model.card.model_copy(update={"laplace": None}))
    assert RewardModel.load(tmp_path).score(exchanges).std is None
    assert not (tmp_path / "laplace.safetensors").exists()


def test_the_share_of_people_lies_in_its_interval(biased: Path) -> None:
    """Soft labels: votes of 5 people per pair. 200 prompts to fit on, 400 others to look."""
    rng = np.random.default_rng(0)

    def voted(n: int, seed: int) -> list[Preference]:
        return [
            record.model_copy(update={"p_a": float(rng.binomial(5, 0.8 * record.p_a + 0.1)) / 5})
            for record in wordy(n, seed=seed, wanted=WANTED)
        ]

    model, fresh = RewardModel.load(biased), voted(400, 2)
    refine(model, voted(200, 1), [], Asked(level=0.8))
    spec = find_interval(model.card.intervals, "preference", "reward")
    assert (spec.level, spec.n, spec.n_prompts) == (0.8, 200, 200)
    reward = model.score([exchange for record in fresh for exchange in record.exchanges()]).reward.reshape(-1, 2)
    margin = reward[:, 0] - reward[:, 1]
    low, high = preference_interval(spec, margin, model.temperature)
    shares = np.array([record.p_a for record in fresh])
    # sd of the coverage: 0.02 from 400 looks, 0.028 from 200 to fit on.
    assert 0.72 <= ((low <= shares) & (shares <= high)).mean() <= 0.92
    below, above = margin_interval(spec, margin, model.temperature)
    assert ((below <= margin) & (margin <= above)).all()
    with pytest.raises(ModelError, match="this model has: preference reward"):
        find_interval(model.card.intervals, "rating", "tone")


def test_a_rating_lies_in_its_interval(base: Base, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rated = []
    for _ in range(240):
        response = text(rng, 6)
        rated.append(Rating(prompt=user(text(rng, 5)), response=response, values={"cats": 3.0 + cats(response) + 0.5 * rng.normal()}))
    settings = {"base": base(), "epochs": "3", "batch.pairs": "16", "learning_rate": "5e-3", "uncertainty.interval": "0.9"}
    train(rated[:100], rated[100:170], load_config(None, settings), tmp_path / "run")
    model = RewardModel.load(tmp_path / "run")
    spec = find_interval(model.card.intervals, "rating", "cats")
    assert spec.n_prompts == 70
    low, high = rating_interval(spec, model.score([Exchange(prompt=item.prompt, response=item.response) for item in rated[170:]]))
    values = np.array([item.values["cats"] for item in rated[170:]])
    assert ((low <= values) & (values <= high)).mean() >= 0.78
    np.testing.assert_allclose(high - low, 2 * spec.half_width)


def test_train_fits_what_its_settings_ask_for(base: Base, tmp_path: Path) -> None:
    settings = {"base": base(), "epochs": "2", "batch.pairs": "8", "learning_rate": "5e-3", "uncertainty.laplace": "true",
                "length_calibration": "auto", "uncertainty.interval": "0.9", "ensemble.kind": "heads", "ensemble.size": "2"}  # fmt: skip
    train(wordy(80, seed=0, wanted=WANTED), wordy(60, seed=1, wanted=WANTED), load_config(None, settings), tmp_path / "run")
    model = RewardModel.load(tmp_path / "run")
    card = model.card
    assert None not in (card.laplace, card.length, card.ensemble)
    assert len(card.intervals) == 1
    exchanges = [exchange for record in wordy(6, seed=2, wanted=WANTED) for exchange in record.exchanges()]
    check_scorer(model, exchanges)
    scores, members = model.score(exchanges), model.member_rewards(exchanges)
    # The members' spread and the last layer's doubt add up as variances.
    assert scores.std is not None
    assert (scores.std > members.std(1, ddof=1)).all()
    # Data that do not suffice leave a finished model as it is.
    few = train(wordy(24, seed=0, wanted=WANTED), wordy(6, seed=1, wanted=WANTED), load_config(None, settings), tmp_path / "few")
    assert few.stopped is None
    assert RewardModel.load(tmp_path / "few").card.length is None


def test_what_cannot_be_fitted(biased: Path) -> None:
    model = RewardModel.load(biased)
    with pytest.raises(FitError, match="12 held-out responses, needs 20"):
        refine(model, wordy(6, seed=1, wanted=0.0), [], Asked(length="auto"))
    with pytest.raises(FitError, match=r"8 held-out prompts, a 0\.9 interval needs 9"):
        refine(model, wordy(8, seed=1, wanted=0.0), [], Asked(level=0.9))
    with pytest.raises(DataError, match="overall comparisons"):
        refine(model, [], [], Asked(laplace=True))
    model.card = model.card.model_copy(update={"ensemble": EnsembleSpec(kind="members", members=(Member(), Member()))})
    with pytest.raises(ConfigError, match="an ensemble of members"):
        refine(model, [], wordy(30, seed=1, wanted=0.0), Asked(laplace=True))


def test_the_command(biased: Path, tmp_path: Path) -> None:
    shutil.copytree(biased, tmp_path / "model")
    write_preferences(tmp_path / "trusted.jsonl", wordy(200, seed=1, wanted=0.0))
    write_preferences(tmp_path / "train.jsonl", wordy(100, seed=0, wanted=WANTED))
    asked = [
        str(tmp_path / "model"),
        str(tmp_path / "trusted.jsonl"),
        "--laplace",
        str(tmp_path / "train.jsonl"),
        "--interval",
        "0.9",
        "--json",
    ]
    done = CliRunner().invoke(preferent, ["calibrate", *asked], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["length"]["applied"]
    assert found["laplace"]["n_pairs"] == 100
    assert [spec["kind"] for spec in found["intervals"]] == ["preference"]
    assert "length calibration is applied" in done.stderr
    card = RewardModel.load(tmp_path / "model").card
    assert card.calibration is not None
    assert found["calibration"]["temperature"] == card.calibration.temperature
    again = CliRunner().invoke(preferent, ["calibrate", *asked])
    assert "fitted before" in str(again.exception)
    copied = CliRunner().invoke(
        preferent, ["calibrate", *asked, "-o", str(tmp_path / "copy"), "--length-calibration", "off"], catch_exceptions=False
    )
    assert json.loads(copied.stdout)["length"] is None
    assert RewardModel.load(tmp_path / "model").card.length is not None
    assert RewardModel.load(tmp_path / "copy").card.laplace is not None
    done = CliRunner().invoke(
        preferent, ["average", str(tmp_path / "model"), str(tmp_path / "copy"), "-o", str(tmp_path / "mean"), "--json"]
    )
    assert json.loads(done.stdout)["averaged"] == 2
