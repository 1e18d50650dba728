"""What can be told from the files: format, completeness, outputs, and what servers will make of the config."""

from __future__ import annotations

from typing import Any

import torch

from preferent.core.errors import ModelError
from preferent.models.doctor.patient import Patient, config_value
from preferent.models.doctor.report import Check
from preferent.models.heads import head_of

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
# A fresh head is drawn with this relative spread around initializer_range; of 64 weights and more, a trained one rarely is.
LIKE_FRESH = 0.1
# vLLM turns these class names into embedding models: hidden states come out, no rewards.
EMBEDDED_NAMES = ("RewardModel", "ForRewardModeling")


def check_loads(patient: Patient) -> Check:
    """transformers builds the classifier and the tokenizer, and every weight outside the head is in the files."""
    if patient.headless:
        return Check("loads", None, "not tried", "an adapter without a head has nothing to score with")
    if patient.trouble is not None:
        return Check("loads", False, patient.trouble, hint="the other lines say what can be told without loading it")
    lost = [name for name in patient.missing if name not in patient.head_missing]
    if lost:
        return Check("loads", False, f"{len(lost)} weights are in no file", f"random numbers stand for {lost[:4]}", "save the model again")
    assert patient.model is not None
    size = sum(parameter.numel() for parameter in patient.model.parameters())
    return Check("loads", True, f"{type(patient.model).__name__}, {size:,} parameters")


def check_safetensors(patient: Patient) -> Check:
    """Weights in safetensors files: nothing is run when they are loaded."""
    pickles = sorted(file.name for file in patient.folder.iterdir() if file.suffix in PICKLES)
    files = sorted(patient.folder.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files) / 1e6
    figure = f"{len(files)} safetensors ({size:.1f} MB), {len(pickles)} pickled"
    if not files:
        return Check("safetensors", False, figure, f"weights only in {pickles[:3]}" if pickles else "no weights here",
                     "convert with save_pretrained(..., safe_serialization=True): loading a pickle can run any code")  # fmt: skip
    if pickles:
        return Check("safetensors", True, figure, f"{pickles[:3]} lie beside them", "delete them: loading a pickle can run any code", True)
    return Check("safetensors", True, figure)


def check_head(patient: Patient) -> Check:
    """The head is in the files, and does not look as if it was never trained."""
    if patient.headless:
        return Check("head", False, "an adapter without a head", "every load draws another random head",
                     "train again with modules_to_save=['score'] (or 'classifier'); this head is lost")  # fmt: skip
    if patient.model is None:
        return _not_loaded("head", patient)
    if patient.head_missing:
        return Check("head", False, f"{', '.join(patient.head_missing)} in no file", "every load draws another random head",
                     "this is a backbone, or a reward model saved without its head: train it (again) with the head saved")  # fmt: skip
    weight = _last_weight(patient.model)
    if weight is None:
        return Check("head", None, "no linear head found", "its class keeps the head under a name of its own")
    mean, sd = float(weight.mean()), float(weight.std())
    initial = config_value(patient.config, "initializer_range")
    figure = f"weights {tuple(weight.shape)}, mean {mean:+.1e}, sd {sd:.1e}"
    if initial and abs(sd / initial - 1) < LIKE_FRESH and abs(mean) < 3 * sd / weight.numel() ** 0.5:
        return Check("head", True, figure, f"looks like a fresh draw (initializer_range {initial}): it may never have been trained",
                     "compare its accuracy on known pairs with chance", warning=True)  # fmt: skip
    return Check("head", True, figure)


def _last_weight(model: Any) -> torch.Tensor | None:
    try:
        _, head = head_of(model)
    except ModelError:
        return None
    linear = [part for part in head.modules() if isinstance(part, torch.nn.Linear)]
    return linear[-1].weight.detach().float() if linear else None


def check_num_labels(patient: Patient) -> Check:
    """One output, by the config and by the files."""
    stated, loaded = patient.stated_labels, patient.config.num_labels
    if patient.adapter is not None:
        return Check("num_labels", None, "an adapter", "the outputs are those of its head; its base states none")
    if stated != loaded:
        return Check("num_labels", False, f"config says {stated}, the head in the files has {loaded}",
                     "loading without num_labels fails or draws a random head", "write a one-entry id2label into config.json")  # fmt: skip
    if stated != 1:
        return Check("num_labels", False, f"{stated} outputs", "tools compare the first one, or lists of them, without saying so",
                     "train with one output; if it was, config.json lacks a one-entry id2label")  # fmt: skip
    return Check("num_labels", True, "1 output")


def check_problem_type(patient: Patient) -> Check:
    """`regression` keeps servers from squashing the reward."""
    stated = getattr(patient.config, "problem_type", None)
    if stated == "regression":
        return Check("problem_type", True, "regression")
    if patient.adapter is not None:
        return Check("problem_type", None, "an adapter", "the merged model states it")
    return Check("problem_type", False, f"{stated}", "vLLM and other servers answer sigmoid(reward): large rewards become ties at 1.0",
                 'write "problem_type": "regression" into config.json')  # fmt: skip


def check_vllm(patient: Patient) -> Check:
    """What vLLM serves: the raw reward only for one bias-free output, regression, under a class name it takes for a classifier."""
    if patient.adapter is not None:
        return Check("vLLM", None, "an adapter", "merge it into its base before serving")
    config = patient.config
    name = (getattr(config, "architectures", None) or ["no architecture"])[0]
    if name.endswith(EMBEDDED_NAMES):
        return Check("vLLM", False, f"{name}: embed, hidden states instead of rewards", "the class name decides",
                     "name the architecture <X>ForSequenceClassification")  # fmt: skip
    if not name.endswith("ForSequenceClassification"):
        return Check("vLLM", False, f"{name}: not served as a classifier", "the architecture in config.json decides",
                     "name the architecture <X>ForSequenceClassification")  # fmt: skip
    if "score.bias" in patient.shapes:
        return Check("vLLM", False, "score.bias has no place in its head", "its decoder heads have no bias",
                     "drop score.bias: a constant added to every reward means nothing")  # fmt: skip
    activation = _activation(config)
    figure = f"classify, {activation}: {'the raw reward' if activation == 'identity' else f'{activation}(reward)'}"
    if activation == "identity":
        return Check("vLLM", True, figure)
    return Check(
        "vLLM", False, figure, "rewards come out squashed", 'use_activation=false in each request, or "problem_type": "regression"'
    )


def _activation(config: Any) -> str:
    """What vLLM applies to the outputs of a classifier."""
    stated = getattr(config, "sentence_transformers", None) or {}
    named = (stated.get("activation_fn") if isinstance(stated, dict) else None) or getattr(
        config, "sbert_ce_default_activation_function", None
    )
    if named:
        return str(named).rsplit(".", 1)[-1].lower()
    if config.problem_type == "regression":
        return "identity"
    return "sigmoid" if config.num_labels == 1 or config.problem_type == "multi_label_classification" else "softmax"


def check_pad(patient: Patient) -> Check:
    """A pad token of its own, the same for tokenizer and model."""
    if patient.tokenizer is None:
        return _not_loaded("pad token", patient)
    tokenizer, stated = patient.tokenizer, config_value(patient.config, "pad_token_id")
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    figure = f"pad {pad} {tokenizer.pad_token!r}, eos {eos} {tokenizer.eos_token!r}, config's pad {stated}"
    fix = "add a token of its own, and set pad_token_id in config.json to its id"
    if pad is None and stated is None:
        return Check("pad token", False, figure, "no pad token: batches of more than one are refused", fix)
    ends = config_value(patient.config, "eos_token_id")
    if patient.pad_id in {eos, *(ends if isinstance(ends, list) else [ends])}:
        return Check("pad token", False, figure, "pad is an end token: pooling by searching for the pad id stops at it", fix)
    if pad != stated:
        return Check("pad token", False, figure, "tokenizer and model disagree: padded batches are read at the wrong token", fix)
    return Check("pad token", True, figure)


def _not_loaded(name: str, patient: Patient) -> Check:
    return Check(name, None, "not loaded", patient.trouble or "")
