"""Settings: defaults, kinds, TOML and the command line, and what a mistake is answered with."""

import subprocess
import sys
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.core.errors import ConfigError
from preferent.core.settings import to_toml
from preferent.training.config import (
    BradleyTerry,
    Constant,
    Cosine,
    Davidson,
    EarlyStopping,
    Linear,
    Lora,
    Pairs,
    RaoKupper,
    Tokens,
    TrainConfig,
    load_config,
    options,
    resolved_learning_rate,
    resolved_micro_tokens,
    schedule_factor,
)

SURFACE = [
    "base",
    "max_length",
    "epochs",
    "max_steps",
    "batch.kind",
    "batch.pairs",
    "batch.tokens",
    "max_responses",
    "micro_tokens",
    "learning_rate",
    "schedule.kind",
    "schedule.warmup",
    "schedule.floor",
    "weight_decay",
    "clip",
    "loss.kind",
    "loss.label_smoothing",
    "loss.centring",
    "loss.margin",
    "adapter.kind",
    "adapter.rank",
    "adapter.alpha",
    "adapter.dropout",
    "adapter.targets",
    "votes.kind",
    "votes.model",
    "votes.learning_rate",
    "votes.slope_sd",
    "votes.position_sd",
    "votes.groups",
    "combination.kind",
    "combination.weights",
    "combination.signs",
    "combination.shape",
    "combination.hidden",
    "combination.cost",
    "combination.budget",
    "combination.temperature",
    "ratings.weight",
    "ratings.learning_rate",
    "decorrelation.kind",
    "decorrelation.length_weight",
    "decorrelation.orthogonal_weight",
    "decorrelation.penalty",
    "ensemble.kind",
    "ensemble.size",
    "ensemble.bootstrap",
    "ensemble.start",
    "ensemble.number",
    "ensemble.start_seed",
    "ensemble.own_head",
    "augment.kind",
    "augment.ratio",
    "augment.weight",
    "augment.ties",
    "augment.edits",
    "augment.audit",
    "augment.labels",
    "steps.separator",
    "steps.split",
    "steps.aggregation",
    "length_calibration",
    "uncertainty.laplace",
    "uncertainty.interval",
    "precision",
    "gradient_checkpointing",
    "dropout",
    "order",
    "share_prompts",
    "held_out",
    "group_key",
    "early_stopping.patience",
    "early_stopping.min_delta",
    "evaluate_every",
    "save_every",
    "seed",
    "trackers",
    "trust_remote_code",
    "threads",
]


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_defaults():
    config = load_config(None, {"base": "minilm"})
    assert config == TrainConfig(base="minilm")
    assert (config.batch, config.schedule, config.loss) == (Pairs(pairs=16), Cosine(warmup=0.05, floor=0.1), BradleyTerry())


def test_the_command_line_surface():
    # Scripts rest on these names: add, but do not rename.
    assert [option.name for option in options()] == SURFACE
    assert all(option.help and option.type and "\n" not in option.help for option in options())


def test_options_say_type_default_and_kinds():
    by_name = {option.name: option for option in options()}
    assert (by_name["base"].type, by_name["base"].default) == ("str", "required")
    assert (by_name["batch.kind"].type, by_name["batch.kind"].default) == ("pairs | tokens", "pairs")
    assert (by_name["batch.tokens"].kinds, by_name["seed"].kinds) == (("tokens",), ())
    assert by_name["schedule.warmup"].default == "0.05 (constant: 0.0)"
    assert by_name["learning_rate"].type == "float > 0 | none"
    assert by_name["loss.label_smoothing"].type == "float >= 0, < 0.5"
    assert by_name["trackers"].type == "any of tensorboard, wandb"


def test_file_then_command_line(toml):
    path = toml('base = "tiny"\nepochs = 2\n[batch]\nkind = "pairs"\npairs = 32\n[early_stopping]\npatience = 2\n')
    config = load_config(path, {"schedule.warmup": "0.1", "seed": "7", "learning_rate": "1e-4"})
    assert (config.epochs, config.batch, config.early_stopping) == (2.0, Pairs(pairs=32), EarlyStopping(patience=2))
    assert (config.schedule, config.seed, config.learning_rate) == (Cosine(warmup=0.1), 7, 1e-4)


def test_a_kind_that_changes_resets_its_table_and_one_that_does_not_keeps_it(toml):
    path = toml('base = "tiny"\n[schedule]\nkind = "cosine"\nwarmup = 0.2\nfloor = 0.3\n')
    assert load_config(path, {"schedule.kind": "linear"}).schedule == Linear()
    assert load_config(path, {"schedule.floor": "0.5", "schedule.kind": "linear"}).schedule == Linear(floor=0.5)
    assert load_config(path, {"schedule.kind": "cosine"}).schedule == Cosine(warmup=0.2, floor=0.3)
    assert load_config(path, {"batch.kind": "tokens", "batch.tokens": "8192"}).batch == Tokens(tokens=8192)


def test_a_kind_may_stand_for_its_table(toml):
    config = load_config(toml('base = "tiny"\nloss = "davidson"\nadapter = { kind = "lora", rank = 4 }\n'), {"schedule": "constant"})
    assert (config.loss, config.schedule) == (Davidson(), Constant())
    assert isinstance(config.adapter, Lora)
    assert config.adapter.rank == 4


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("base", "7", "7"),
        ("base", "org/model-1.5", "org/model-1.5"),
        ("base", '"quoted"', "quoted"),
        ("base", "2024-01-01", "2024-01-01"),
        ("epochs", "3", 3.0),
        ("epochs", ".5", 0.5),
        ("max_steps", "1_000", 1000),
        ("max_steps", "none", None),
        ("group_key", "none", None),
        ("group_key", "12", "12"),
        ("dropout", "true", True),
        ("trackers", "tensorboard,wandb", ("tensorboard", "wandb")),
        ("trackers", '["wandb"]', ("wandb",)),
        ("trackers", "", ()),
        ("early_stopping", "none", None),
    ],
)
def test_command_line_values(name, text, value):
    assert getattr(load_config(None, {"base": "tiny", name: text}), name) == value


def test_lora_targets_are_one_word_or_several():
    def targets(text):
        adapter = load_config(None, {"base": "tiny", "adapter.kind": "lora", "adapter.targets": text}).adapter
        assert isinstance(adapter, Lora)
        return adapter.targets

    assert targets("all-linear") == "all-linear"
    assert targets("q_proj, v_proj") == ("q_proj", "v_proj")


def test_early_stopping_of_a_file_can_be_cleared(toml):
    path = toml('base = "tiny"\n[early_stopping]\npatience = 2\n')
    assert load_config(path, {"early_stopping": "none"}).early_stopping is None
    assert load_config(path, {"early_stopping.min_delta": "0.01"}).early_stopping == EarlyStopping(patience=2, min_delta=0.01)


@pytest.mark.parametrize(
    ("text", "overrides", "message", "hint"),
    [
        ("seed = 1\n", {}, "base is not set", "--base ...: the model to start from: 'minilm'"),
        ('base = "t"\n\n[batch]\npears = 3\n', {}, "run.toml:4: unknown setting 'batch.pears', allowed: batch.kind, ", "'batch.pairs'"),
        ('base = "t"\nbatch.pears = 3\n', {}, "run.toml:2: unknown setting 'batch.pears'", "'batch.pairs'"),
        ('base = "t"\nbatch = { pears = 3 }\n', {}, "run.toml:2: unknown setting 'batch.pears'", "'batch.pairs'"),
        ('base = "t"\n', {"pairs": "3"}, "--pairs: unknown setting 'pairs', allowed: base, ", "'batch.pairs'"),
        ('base = "t"\n', {"bath.kind": "tokens"}, "--bath.kind: unknown setting 'bath.kind'", "'batch.kind'"),
        ('base = "t"\nlearning-rate = 1.0\n', {}, "run.toml:2: unknown setting 'learning-rate'", "'learning_rate'"),
        (
            'base = "t"\n[batch]\ntokens = 9\n',
            {},
            "run.toml:3: 'batch.tokens' is a setting of batch.kind 'tokens', but",
            "--batch.kind tokens",
        ),
        ('base = "t"\n', {"loss": "davison"}, "--loss: loss.kind is 'davison', allowed: bradley_terry, davidson, ", "'davidson'"),
        (
            'base = "t"\n',
            {"loss": "davidson", "loss.centring": "1"},
            "'loss.centring' is a setting of loss.kind 'bradley_terry'",
            "loss.kind",
        ),
        ('base = "t"\n\nseed = -1\n', {}, "run.toml:3: seed is -1, allowed: int >= 0", ""),
        ('base = "t"\n', {"batch.pairs": "0"}, "--batch.pairs: batch.pairs is 0, allowed: int >= 1", ""),
        ('base = "t"\n', {"adapter": "lora", "adapter.rank": "x"}, "--adapter.rank: adapter.rank is 'x', allowed: int >= 1", ""),
        ('base = "t"\n', {"epochs": "soon"}, "--epochs: epochs is 'soon', allowed: float > 0", ""),
        ('base = "t"\n', {"learning_rate": "nan"}, "--learning_rate: learning_rate is nan, allowed: float > 0", ""),
        ('base = "t"\n', {"precision": "fp16"}, "--precision: precision is 'fp16', allowed: auto | fp32 | bf16", ""),
        ('base = "t"\n', {"trackers": "mlflow"}, "--trackers: trackers is 'mlflow', allowed: any of tensorboard, wandb", ""),
        ('base = "t"\nbatch = 3\n', {}, "run.toml:2: batch.kind is 3, allowed: pairs, tokens", ""),
        ('base = "t"\n', {"batch": "none"}, "--batch: batch.kind is 'none', allowed: pairs, tokens", ""),
        ('base = "t"\nearly_stopping = true\n', {}, "run.toml:2: unknown setting 'early_stopping', allowed: early_stopping.patience, ", ""),
        ("base = \n", {}, "cannot be read as TOML", ""),
    ],
)
def test_a_mistake_is_named_with_its_place(toml, text, overrides, message, hint):
    with pytest.raises(ConfigError) as caught:
        load_config(toml(text), overrides)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_all_bad_values_are_told_at_once(toml):
    with pytest.raises(ConfigError) as caught:
        load_config(toml('base = "t"\nseed = -1\nclip = -2\n'), {"epochs": "0"})
    assert caught.value.message.count("\n") == 2


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
CONFIGS = st.builds(
    TrainConfig,
    base=TEXT,
    group_key=st.none() | TEXT,
    learning_rate=st.none() | st.floats(1e-9, 1),
    batch=st.builds(Pairs, pairs=st.integers(1, 99)) | st.builds(Tokens, tokens=st.integers(1, 99)),
    schedule=st.builds(Linear, warmup=st.floats(0, 0.9)) | st.builds(Constant),
    loss=st.builds(BradleyTerry, label_smoothing=st.floats(0, 0.4)) | st.builds(RaoKupper),
    adapter=st.builds(Lora, targets=TEXT | st.lists(TEXT, min_size=1, max_size=3).map(tuple)),
    early_stopping=st.none() | st.builds(EarlyStopping, min_delta=st.floats(0, 1)),
    trackers=st.sampled_from([(), ("wandb",), ("tensorboard", "wandb")]),
    dropout=st.booleans(),
    threads=st.none() | st.integers(1, 8),
)


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_a_saved_config_reads_back_to_itself(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("saved") / "config.toml"
    path.write_bytes(to_toml(config).encode("utf-8"))
    assert load_config(path) == config
    assert TrainConfig.model_validate(tomllib.loads(to_toml(config))) == config
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_learning_rate_by_base_and_adapter():
    def rate(**settings):
        return resolved_learning_rate(TrainConfig(**{"base": "org/model", **settings}))

    assert rate() == 2e-5
    assert rate(adapter=Lora()) == 2e-4
    assert rate(base="minilm") == 5e-5
    assert rate(base="minilm", adapter=Lora()) == 2e-4
    assert rate(base="tiny") == rate(base="tiny", adapter=Lora()) == 1e-3
    assert rate(base="tiny", learning_rate=3e-4) == 3e-4


def test_resolved_micro_tokens():
    assert resolved_micro_tokens(TrainConfig(base="t"), "cpu") == 1024
    assert resolved_micro_tokens(TrainConfig(base="t"), "cuda") == 16384
    assert resolved_micro_tokens(TrainConfig(base="t", micro_tokens=60), "cuda") == 60


def test_schedule_worked_example():
    # 11 steps, warm-up 0.2 * 11 = 2.2, so 3 steps: 1/3, 2/3, 1. Then 7 more after step 3, at step 3 the peak, at step 10 the floor.
    linear = [schedule_factor(step, 11, Linear(warmup=0.2, floor=0.1)) for step in range(12)]
    assert linear[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert linear[4] == pytest.approx(0.1 + 0.9 * 6 / 7)
    assert linear[10:] == pytest.approx([0.1, 0.1])
    # Half-way between step 3 and step 11 the cosine is half-way between peak and floor: 0.1 + 0.9 / 2 = 0.55.
    assert schedule_factor(7, 12, Cosine(warmup=0.25, floor=0.1)) == pytest.approx(0.55)
    assert [schedule_factor(step, 4, Constant(warmup=0.5)) for step in range(5)] == [0.5, 1, 1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.floats(0, 0.95), st.floats(0, 1), st.sampled_from([Cosine, Linear, Constant]))
def test_schedules_rise_then_fall(total, warmup, floor, kind):
    schedule = kind(warmup=warmup) if kind is Constant else kind(warmup=warmup, floor=floor)
    factors = [schedule_factor(step, total, schedule) for step in range(total)]
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert all(0 < factor <= 1 for factor in factors[: peak + 1])
    assert min(factors[peak:]) >= (1.0 if kind is Constant else floor) - 1e-12 or peak == total - 1


def test_the_pure_parts_load_no_torch():
    code = (
        "import sys, preferent.training.config, preferent.training.groups, preferent.training.batches, preferent.training.calibration;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
