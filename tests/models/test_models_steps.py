"""A step model: ends of steps by construction, one pass, the same score through every door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_models import sentence  # noqa: E402

from preferent.core.contracts import check_scorer  # noqa: E402
from preferent.core.errors import ConfigError, ModelError  # noqa: E402
from preferent.core.records import Exchange, Scores, user  # noqa: E402
from preferent.core.step_rewards import Aggregation  # noqa: E402
from preferent.models.packing import pack, packed_length  # noqa: E402
from preferent.models.render import RenderSpec, prepare_template, prompt_ids  # noqa: E402
from preferent.models.reward_model import RewardModel  # noqa: E402
from preferent.models.steps import Solution, StepRewardModel, hub_first  # noqa: E402
from preferent.models.steps_module import StepModule  # noqa: E402
from preferent.models.steps_render import default_separator, tokenize_steps  # noqa: E402
from preferent.models.steps_spec import is_step_model, split_steps  # noqa: E402

DECODERS = ["llama", "qwen3", "mistral", "gemma2", "phi3", "gpt_neox", "gpt2"]
ENCODERS = ["bert", "roberta", "modernbert", "deberta"]


@pytest.fixture(scope="session")
def solutions() -> list[Solution]:
    """Two problems, each with four solutions that share none to all but one of their steps, and a problem of its own; 1 to 5 steps."""
    rng = np.random.default_rng(5)
    made = []
    for n_words in (4, 30):
        prompt, common = user(sentence(rng, n_words)), tuple(sentence(rng, 6) for _ in range(4))
        for kept in (4, 3, 1, 0):
            own = tuple(sentence(rng, 5) for _ in range(max(1, 3 - kept)))
            made.append(Solution(prompt, (*common[:kept], *own)))
    return [*made, Solution(user(sentence(rng, 3)), (sentence(rng, 2),))]


@pytest.fixture(scope="module")
def model_of(backbone_folder: Callable[[str], Path]) -> Callable[[str], StepRewardModel]:
    """model_of(kind) -> a step model whose head is large enough that scores differ, with an aggregation."""
    made: dict[str, StepRewardModel] = {}

    def model(kind: str) -> StepRewardModel:
        if kind not in made:
            made[kind] = StepRewardModel.create(str(backbone_folder(kind)), max_length=400, seed=3)
            with torch.no_grad():
                made[kind].module.linear.get_parameter("weight").mul_(10.0)
            made[kind].settle(aggregation=Aggregation("product"), threshold=0.4)
        return made[kind]

    return model


@pytest.fixture(scope="module")
def saved(model_of: Callable[[str], StepRewardModel], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """saved(kind) -> its checkpoint folder."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(f"{kind}-prm")
            model_of(kind).save(made[kind])
        return made[kind]

    return folder


def flat(logits: Any) -> np.ndarray:
    return np.concatenate(list(logits))


# ---- where steps end ----


def test_the_end_of_a_step_is_counted_not_searched(decoder_tokenizer: Any) -> None:
    """The pieces between the ends are the steps as they were given, whatever stands in them: blank lines, nothing, the separator itself."""
    prompt = user("small question")
    steps = ("a small stone\n\n", "", "\n\nthe river", "the answer\n\nwrites", "well")
    found = tokenize_steps(decoder_tokenizer, [(prompt, steps)], RenderSpec(max_length=10_000), "\n\n")[0]
    (window,) = found.windows
    assert window.steps == (0, 1, 2, 3, 4)
    start = len(prompt_ids(decoder_tokenizer, prompt))
    for step, end in zip(steps, window.reads, strict=True):
        assert decoder_tokenizer.decode(window.ids[start : end + 1]) == f"{step}\n\n"
        start = end + 1
    assert start == len(window.ids)


def test_steps_that_the_tokenizer_would_merge_keep_their_ends(decoder_tokenizer: Any) -> None:
    """A byte-pair tokenizer has " stone" as one token, so that in the text as a whole a separator of one space is part of the next step:
    searching for it would find nothing."""
    prompt, steps, ids_of = (
        user("question"),
        ("green river", "stone", "stone"),
        lambda t: decoder_tokenizer(t, add_special_tokens=False)["input_ids"],
    )
    space = ids_of(" ")
    assert len(space) == 1
    assert space[0] not in ids_of("green river stone stone "[:-1])
    (window,) = tokenize_steps(decoder_tokenizer, [(prompt, steps)], RenderSpec(max_length=100), " ")[0].windows
    assert list(window.ids) == [*prompt_ids(decoder_tokenizer, prompt), *(i for step in steps for i in ids_of(f"{step} "))]
    assert [window.ids[read] for read in window.reads] == space * 3


def test_a_tokenizer_that_drops_line_breaks_gets_its_separator_token() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[SEP]": 2, "[CLS]": 3, "stone": 4}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "sep_token": "[SEP]", "cls_token": "[CLS]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    prepare_template(tokenizer)
    assert default_separator(tokenizer) == "[SEP]"
    # Role and colon, the text, [SEP]; role and colon; then the steps, of which the second is empty.
    (window,) = tokenize_steps(tokenizer, [(user("stone"), ("stone stone", ""))], RenderSpec(max_length=100), "[SEP]")[0].windows
    assert list(window.ids[-4:]) == [4, 4, 2, 2]
    assert window.reads == (len(window.ids) - 2, len(window.ids) - 1)


def test_a_tokenizer_that_drops_line_breaks_and_has_a_mask_is_read_at_masks(decoder_tokenizer: Any) -> None:
    """What an encoder fills in from around; a tokenizer that keeps line breaks gets a blank line whatever else it has."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[SEP]": 2, "[MASK]": 3, "stone": 4}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    assert default_separator(tokenizer) == "[MASK]"
    prepare_template(tokenizer)
    (window,) = tokenize_steps(tokenizer, [(user("stone"), ("stone stone", ""))], RenderSpec(max_length=100), "[MASK]")[0].windows
    assert list(window.ids[-4:]) == [4, 4, 3, 3]
    assert default_separator(decoder_tokenizer) == "\n\n"


def test_a_separator_without_a_token_is_refused(backbone_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"steps\.separator ''"):
        StepRewardModel.create(str(backbone_folder("llama")), separator="")


@pytest.mark.parametrize(
    ("text", "rule", "steps"),
    [
        ("one\n\ntwo\n \n\nthree\n", "auto", ("one", "two", "three")),
        ("one\ntwo\n\nthree", "auto", ("one\ntwo", "three")),
        ("one\ntwo", "auto", ("one", "two")),
        ("one\ntwo", "blank_lines", ("one\ntwo",)),
        ("one\ntwo\n\nthree", "lines", ("one", "two", "three")),
        ("one\r\n\r\ntwo", "auto", ("one", "two")),
        ("  ", "auto", ("  ",)),
        ("", "lines", ("",)),
    ],
)
def test_how_a_response_is_split(text: str, rule: Any, steps: tuple[str, ...]) -> None:
    assert split_steps(text, rule) == steps


def test_a_long_solution_is_scored_in_windows_and_every_step_once(decoder_tokenizer: Any) -> None:
    rng = np.random.default_rng(3)
    prompt, steps = user(sentence(rng, 20)), tuple(sentence(rng, int(n)) for n in rng.integers(1, 12, 12))
    whole = tokenize_steps(decoder_tokenizer, [(prompt, steps)], RenderSpec(max_length=10_000), "\n\n")[0]
    ids, ends = whole.windows[0].ids, whole.windows[0].reads
    assert (len(whole.windows), whole.dropped, whole.response_cut) == (1, 0, False)
    for limit in (len(ids) - 1, len(ids) // 2, 40):
        found = tokenize_steps(decoder_tokenizer, [(prompt, steps)], RenderSpec(max_length=limit), "\n\n")[0]
        assert found.dropped == len(ids) - limit
        assert [step for window in found.windows for step in window.steps] == list(range(12))
        for window in found.windows:
            last = ends[window.steps[-1]]
            assert len(window.ids) <= limit
            assert window.ids == ids[max(0, last + 1 - limit) : last + 1], "ends with its last step, cut from the left"
            assert [window.ids[read] for read in window.reads] == [ids[ends[step]] for step in window.steps]
            assert [window.reads[-1] - read for read in window.reads] == [last - ends[step] for step in window.steps]


# ---- packing ----


def test_solutions_share_with_the_first_what_they_have_in_common() -> None:
    """20 tokens in common with the second sequence, 30 with the third, 3 (too few to share) with the fourth."""
    first = list(range(100, 140))
    bundle = [first, [*first[:20], 1, 2], [*first[:30], 3], [*first[:3], 4, 5]]
    reads = [(5, 39), (5, 21), (25, 30), (2, 4)]
    batch = pack([bundle], reads=reads)
    assert batch.n_tokens == 40 + 2 + 1 + 5 == packed_length(bundle, share=True, each=True)
    assert [(s.length, s.prefix_length) for s in batch.layout.segments] == [(40, 0), (2, 20), (1, 30), (5, 0)]
    # Offsets in the shared part are rows of the first sequence: 5, 25; the others lie behind it.
    assert batch.read_N.tolist() == [5, 39, 5, 41, 25, 42, 45, 47]
    assert batch.input_ids_T[batch.read_N].tolist() == [sequence[o] for sequence, read in zip(bundle, reads, strict=True) for o in read]


def test_the_sequence_that_has_most_in_common_comes_first() -> None:
    assert hub_first([[1, 2, 9], [1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 2, 3, 7]])[0] in (1, 2)
    assert hub_first([[7, 1], [7, 2]]) == [0, 1]


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_batch_size_partner_sharing_and_the_plain_path(
    kind: str, model_of: Callable[[str], StepRewardModel], saved: Callable[[str], Path], solutions: list[Solution]
) -> None:
    model = model_of(kind)
    together = model.step_logits(solutions)
    assert [len(logit_T) for logit_T in together] == [len(solution.steps) for solution in solutions]
    assert flat(together).std() > 1e-3
    for tokens in (1, 150):
        np.testing.assert_allclose(flat(model.step_logits(solutions, batch_tokens=tokens)), flat(together), atol=2e-5)
    alone = [model.step_logits([solution])[0] for solution in solutions]
    np.testing.assert_allclose(flat(alone), flat(together), atol=2e-5)
    for plain in (False, True):
        other = StepRewardModel.load(saved(kind))
        other.module.share = False
        if plain:
            other.module.use_plain()
        np.testing.assert_allclose(flat(other.step_logits(solutions)), flat(together), atol=2e-5)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_contract(kind: str, model_of: Callable[[str], StepRewardModel]) -> None:
    rng = np.random.default_rng(8)
    prompts = [user(sentence(rng, n)) for n in (3, 25)]
    texts = ["\n\n".join(sentence(rng, 4) for _ in range(n)) for n in (1, 3, 6)]
    check_scorer(model_of(kind), [Exchange(prompt=prompt, response=text) for prompt in prompts for text in texts], tolerance=2e-6)


def test_the_contract_sees_step_scores_that_depend_on_company(model_of: Callable[[str], StepRewardModel]) -> None:
    class Drifting:
        name = "drifting"

        def score(self, exchanges: Any) -> Scores:
            steps = tuple(np.array([0.5, 0.25 + 0.01 * len(exchanges)]) for _ in exchanges)
            return Scores(reward=np.full(len(exchanges), 0.5), steps=steps)

    given = [Exchange(prompt=user("p"), response=text) for text in ("one", "two", "three", "four")]
    with pytest.raises(AssertionError, match="a step of exchange"):
        check_scorer(Drifting(), given)


# ---- what a score depends on ----


def test_a_decoder_scores_a_step_by_what_comes_before_it_and_an_encoder_in_hindsight(
    model_of: Callable[[str], StepRewardModel], solutions: list[Solution]
) -> None:
    prompt, steps = max(solutions, key=lambda solution: len(solution.steps))
    for kind, later in (("llama", False), ("bert", True), ("deberta", True)):
        model = model_of(kind)
        assert model.sees_later_steps is later
        short, whole = model.step_logits([Solution(prompt, steps[:2]), Solution(prompt, steps)])
        difference = float(np.abs(short - whole[:2]).max())
        assert difference > 1e-4 if later else difference < 2e-5


def test_one_pass_of_the_backbone_for_all_steps(model_of: Callable[[str], StepRewardModel], solutions: list[Solution]) -> None:
    model = model_of("llama")
    model.step_logits(solutions[:1])  # the check of the packed path runs once and is not counted
    calls: list[Any] = []
    backbone = getattr(model.module.model, model.module.model.base_model_prefix)
    hook = backbone.register_forward_hook(lambda *_: calls.append(1))
    try:
        model.step_logits([max(solutions, key=lambda solution: len(solution.steps))])
    finally:
        hook.remove()
    assert len(calls) == 1


def test_reward_and_probabilities_follow_from_the_logits(model_of: Callable[[str], StepRewardModel]) -> None:
    """With temperature 2 the probability is sigma(logit / 2); the reward their product."""
    from preferent.models.checkpoint import Calibration

    model = model_of("qwen3")
    exchange = Exchange(prompt=user("small question"), response="the river\n\nthe stone opens")
    (logit_T,) = model.step_logits([Solution(exchange.prompt, ("the river", "the stone opens"))])
    before = model.card
    calibration = Calibration(temperature=2.0, n_pairs=10, nll_before=1.0, nll_after=1.0)
    model.card = before.model_copy(update={"calibration": calibration})
    scores = model.score([exchange])
    model.card = before
    assert scores.steps is not None
    np.testing.assert_allclose(scores.steps[0], 1.0 / (1.0 + np.exp(-logit_T / 2.0)), rtol=1e-6)
    np.testing.assert_allclose(scores.reward, [scores.steps[0].prod()])


def test_without_an_aggregation_there_is_no_reward(backbone_folder: Callable[[str], Path]) -> None:
    model = StepRewardModel.create(str(backbone_folder("llama")))
    with pytest.raises(ModelError, match="no aggregation"):
        model.score([Exchange(prompt=user("p"), response="r")])
    with pytest.raises(ModelError, match="at least one step"):
        model.step_logits([Solution(user("p"), ())])


# ---- the checkpoint ----


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_save_load_and_transformers_with_no_arguments(
    kind: str, model_of: Callable[[str], StepRewardModel], saved: Callable[[str], Path], solutions: list[Solution]
) -> None:
    from transformers import AutoModelForTokenClassification

    logits = model_of(kind).step_logits(solutions)
    loaded = StepRewardModel.load(saved(kind))
    np.testing.assert_allclose(flat(loaded.step_logits(solutions)), flat(logits), rtol=1e-6, atol=1e-6)
    assert loaded.steps == model_of(kind).steps
    theirs = AutoModelForTokenClassification.from_pretrained(saved(kind)).eval()
    assert theirs.config.architectures == [type(theirs).__name__]
    assert theirs.config.num_labels == 1
    for tokens, logit_T in zip(loaded.tokenize_solutions(solutions), logits, strict=True):
        with torch.no_grad():
            found_L = theirs(input_ids=torch.tensor([tokens.windows[0].ids])).logits[0, :, 0]
        np.testing.assert_allclose(found_L[list(tokens.windows[0].reads)].numpy(), logit_T, atol=1e-5)
    heads = [name for name, _ in theirs.named_parameters() if name.endswith(("score.bias", "classifier.bias"))]
    assert all(not theirs.get_parameter(name).any() for name in heads), "no constant"


@pytest.mark.parametrize(("kind", "side"), [("llama", "left"), ("llama", "right"), ("qwen3", "left"), ("bert", "right")])
def test_either_padding_side_through_transformers(
    kind: str, side: str, model_of: Callable[[str], StepRewardModel], saved: Callable[[str], Path], solutions: list[Solution]
) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(saved(kind)).eval()
    tokenizer = AutoTokenizer.from_pretrained(saved(kind), padding_side=side)
    windows = [item.windows[0] for item in model_of(kind).tokenize_solutions(solutions)]
    batch = tokenizer.pad({"input_ids": [list(window.ids) for window in windows]}, return_tensors="pt")
    with torch.no_grad():
        logits_RL = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[..., 0]
    width = logits_RL.shape[1]
    for row, (window, logit_T) in enumerate(zip(windows, model_of(kind).step_logits(solutions), strict=True)):
        shift = width - len(window.ids) if side == "left" else 0
        np.testing.assert_allclose(logits_RL[row, [read + shift for read in window.reads]].numpy(), logit_T, atol=1e-5)


@pytest.mark.parametrize("kind", ["qwen3", "bert", "modernbert"])
def test_lora_merges_to_the_same_scores_and_saves_its_head(
    kind: str, backbone_folder: Callable[[str], Path], solutions: list[Solution], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    from preferent.models.lora import add_lora, merge_lora, save_adapter

    model = StepRewardModel.create(str(backbone_folder(kind)), seed=3)
    wrapped = add_lora(model.module, rank=2, alpha=8.0, dropout=0.0, targets="all-linear")
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, 0.0, 0.3, generator=torch.Generator().manual_seed(1))
    logits = flat(model.step_logits(solutions))
    save_adapter(wrapped, tmp_path / "adapter")
    assert any("score" in name or "classifier" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    model.module.model = merge_lora(wrapped)
    np.testing.assert_allclose(flat(model.step_logits(solutions)), logits, atol=2e-5)
    model.save(tmp_path / "prm")
    np.testing.assert_allclose(flat(StepRewardModel.load(tmp_path / "prm").step_logits(solutions)), logits, atol=2e-5)


def test_each_kind_of_model_is_loaded_by_its_own_class(
    saved: Callable[[str], Path], healthy_llama: Path, backbone_folder: Callable[[str], Path]
) -> None:
    assert is_step_model(saved("llama"))
    assert not is_step_model(healthy_llama)
    assert not is_step_model(backbone_folder("llama"))
    with pytest.raises(ModelError, match="is a step model"):
        RewardModel.load(saved("llama"))
    with pytest.raises(ModelError, match="no step model"):
        StepRewardModel.load(healthy_llama)


@pytest.mark.parametrize("kind", ["llama", "modernbert"])
def test_gradients_are_those_of_the_plain_path_with_and_without_checkpointing(
    kind: str, backbone_folder: Callable[[str], Path], solutions: list[Solution]
) -> None:
    from preferent.training.trainee import checkpoint_activations, silence_dropout

    model = StepRewardModel.create(str(backbone_folder(kind)), seed=3)
    silence_dropout(model.module)
    windows = [item.windows[0] for item in model.tokenize_solutions(solutions[:4])]
    grads = []
    for how in ("packed", "checkpointed", "plain"):
        if how == "checkpointed":
            checkpoint_activations(model.module)
        model.module.packed = how != "plain"
        model.module.zero_grad()
        model.module.train()
        batch = model.pack_steps([[window.ids for window in windows]], [window.reads for window in windows])
        model.module(batch).square().sum().backward()
        grads.append({name: p.grad.clone() for name, p in model.module.named_parameters() if p.grad is not None})
    assert isinstance(model.module, StepModule)
    for other in grads[1:]:
        assert other.keys() == grads[0].keys()
        for name, grad in other.items():
            torch.testing.assert_close(grad, grads[0][name], atol=2e-4, rtol=2e-3)
