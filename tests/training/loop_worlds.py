"""Planted worlds and tiny bases for tests of the training loop, and a script that runs, and kills, whole trainings.

As a script: reads jobs from stdin, one JSON object a line, runs each in a fork of its own (so that a kill ends that run only and
torch is imported once), and answers with one line: {"status": exit code, or minus the signal that ended it}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from preferent.core.records import Preference, Ranking, Rating, StepLabels, Vote, user

WORDS = ["cat", "sat", "mat", "dog", "ate", "all", "my", "homework", "said", "blue", "green", "tree", "house"]


def text(rng: np.random.Generator, n_words: int) -> str:
    return " ".join(rng.choice(WORDS, n_words))


def cats(response: str) -> int:
    return response.split().count("cat")


def planted(n: int, *, seed: int = 0, noise: float = 0.0, ties: float = 0.0) -> list[Preference]:
    """The response with more cats is preferred, by one cat at least; `noise` of the labels are flipped, about `ties` of the pairs tie."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(n):
        a, b = text(rng, 6), text(rng, 6)
        tie = rng.random() < ties
        if tie:
            b = " ".join(rng.permutation([*a.split(), "dog"]))
        elif cats(a) == cats(b):
            b += " cat"
        p_a = 0.5 if tie else float(cats(a) > cats(b))
        if rng.random() < noise:
            p_a = 1.0 - p_a
        records.append(Preference(prompt=user(text(rng, 5)), response_a=a, response_b=b, p_a=p_a, id=f"r{number}"))
    return records


def clumped(n: int, *, seed: int = 0) -> list[Preference]:
    """The same rule, on prompts of 20 words (long enough to be shared) with 2 to 5 responses each, every pair of which is compared."""
    rng = np.random.default_rng(seed)
    records = []
    for _ in range(n):
        prompt, responses = user(text(rng, 20)), [" ".join(["cat"] * k + [text(rng, 5)]) for k in range(rng.integers(2, 6))]
        records += [
            Preference(prompt=prompt, response_a=a, response_b=b, p_a=0.5 if cats(a) == cats(b) else float(cats(a) > cats(b)))
            for number, a in enumerate(responses)
            for b in responses[number + 1 :]
        ]
    return records


def crowd(n: int, *, seed: int = 0) -> list[Vote]:
    """One vote on each of n planted pairs, by 6 honest people, 3 adversaries and 3 who take what is shown first."""
    rng = np.random.default_rng(seed + 1000)
    votes = []
    for number, record in enumerate(planted(n, seed=seed)):
        who = int(rng.integers(12))
        shown_first = "a" if rng.random() < 0.5 else "b"
        right = record.p_a if rng.random() < 0.95 else 1.0 - record.p_a
        p_a = right if who < 6 else 1.0 - right if who < 9 else float(shown_first == "a")
        name = f"{'honest' if who < 6 else 'adversary' if who < 9 else 'left'}-{who}"
        fields = {"prompt": record.prompt, "response_a": record.response_a, "response_b": record.response_b, "id": f"v{number}"}
        votes.append(Vote(**fields, annotator_id=name, p_a=p_a, shown_first=shown_first))
    return votes


def rankings(n: int, *, seed: int = 0) -> list[Ranking]:
    """Four responses with 0, 1, 2 and 3 cats, in any order; 1 is best."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        counts = rng.permutation(4)
        responses = tuple(" ".join(rng.permutation(["cat"] * int(k) + rng.choice(WORDS[1:], 5).tolist())) for k in counts)
        made.append(Ranking(prompt=user(text(rng, 5)), responses=responses, ranks=tuple(float(4 - k) for k in counts)))
    return made


GATE = {"blue": (0.8, 0.2), "green": (0.2, 0.8)}


def counts_of(response: str) -> tuple[int, int]:
    return response.split().count("cat"), response.split().count("dog")


def standard(counts: tuple[int, int]) -> tuple[float, float]:
    """0 to 3, all alike: mean 1.5, variance 1.25."""
    return (counts[0] - 1.5) / 1.25**0.5, (counts[1] - 1.5) / 1.25**0.5


def rated(n: int, *, seed: int = 0, missing: float = 0.4, overall: bool = True) -> list[Preference | Rating]:
    """n prompts that begin with blue or green, each with four responses of 0 to 3 cats and 0 to 3 dogs among other words.

    `feline` is 1 + cats, `canine` is 10 dogs, each rating missing with probability `missing`. Overall, a is preferred with probability
    sigma(4 w . (z_a - z_b)), z the standardised counts; w is 0.8 and 0.2 under blue prompts, 0.2 and 0.8 under green ones.
    """
    rng = np.random.default_rng(seed)
    records: list[Preference | Rating] = []
    others = [word for word in WORDS if word not in ("cat", "dog", "blue", "green")]
    for number in range(n):
        colour = ("blue", "green")[number % 2]
        prompt = user(f"{colour} {colour} " + " ".join(rng.choice(others, 4)))
        responses = []
        for _ in range(4):
            c, d = rng.integers(0, 4, 2)
            words = ["cat"] * int(c) + ["dog"] * int(d) + rng.choice(others, int(rng.integers(1, 6))).tolist()
            responses.append(" ".join(rng.permutation(words)))
        responses = list(dict.fromkeys(responses))
        for place, response in enumerate(responses):
            c, d = counts_of(response)
            values = {name: value for name, value in (("feline", 1.0 + c), ("canine", 10.0 * d)) if rng.random() >= missing}
            if values:
                records.append(Rating(prompt=prompt, response=response, values=values, id=f"rating {number}.{place}"))
        for a, b in pairwise(responses):
            if overall:
                z = np.subtract(standard(counts_of(a)), standard(counts_of(b)))
                p_a = float(1.0 / (1.0 + np.exp(-4.0 * np.dot(GATE[colour], z))))
                records.append(Preference(prompt=prompt, response_a=a, response_b=b, p_a=p_a, id=f"pair {number}"))
    return records


def wordy(n: int, *, seed: int = 0) -> list[Preference]:
    """Pairs of responses that differ in cats and, apart from them, in length; people are drawn to both alike: p_a = sigma of the
    difference in cats plus a quarter of that in words."""
    rng = np.random.default_rng(seed)
    others = [word for word in WORDS if word != "cat"]
    records = []
    for number in range(n):
        made = []
        for _ in range(2):
            count, length = int(rng.integers(0, 4)), int(rng.integers(6, 19))
            made.append(" ".join(rng.permutation(["cat"] * count + rng.choice(others, length - count).tolist())))
        d = cats(made[0]) - cats(made[1]) + 0.25 * (len(made[0].split()) - len(made[1].split()))
        prompt = user(text(rng, 5))
        records.append(Preference(prompt=prompt, response_a=made[0], response_b=made[1], p_a=float(1 / (1 + np.exp(-d))), id=f"w{number}"))
    return records


def stepped(n: int, *, seed: int = 0) -> list[StepLabels]:
    """n problems with three solutions of 3 or 4 steps that begin alike. A step is right if it has a cat in it; every third label is soft
    and every fifth is missing."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(n):
        prompt, common = user(text(rng, 20)), text(rng, 6)
        for nth in range(3):
            steps = (common, *(text(rng, 6) for _ in range(2 + nth % 2)))
            soft = [0.9 if cats(step) else 0.2 for step in steps]
            known = [hard if k % 3 else p for k, (hard, p) in enumerate(zip((float(cats(s) > 0) for s in steps), soft, strict=True))]
            labels = [None if (number + nth + k) % 5 == 0 else label for k, label in enumerate(known)]
            records.append(StepLabels(prompt=prompt, steps=steps, labels=tuple(labels), id=f"s{number}-{nth}"))
    return records


def make_base(folder: Path, kind: str = "qwen3", **more: Any) -> Path:
    """A folder with a random backbone, 2 layers and 32 wide, and a tokenizer that knows the words; `more` goes to its config."""
    import torch
    import transformers as tf
    from tokenizers import processors

    from preferent.models.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer([" ".join(WORDS), *WORDS, " " + " ".join(WORDS)], 400)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "bert":
        config = tf.BertConfig(**{**sizes, "pad_token_id": tokenizer.pad_token_id, "max_position_embeddings": 256, **more})
        start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", start), ("<|im_end|>", end)]
        )
        tokenizer.chat_template = None
    else:
        ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
        config = tf.Qwen3Config(**{**sizes, "num_key_value_heads": 2, "head_dim": 16, **ids, **more})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tf.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def losses(folder: Path, key: str = "loss") -> list[tuple[int, float]]:
    """(step, value) of every row of the metrics file that has this key."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row[key]) for row in rows if key in row]


# ---- the script ----


def run_job(job: dict[str, Any]) -> None:
    """Train on the planted world and be killed as the job says.

    output, config: of the run. resume. n, noise: size and noise of the training data. signal_at: [step, signal]. fsync_at: die at this
    call of fsync, which finds a state half written, written, or moved but older ones not yet removed. torn_at: die at this write of
    tensors with half of the file written. die_in_finish: die when the last step is done. votes: train on single votes of a crowd. world:
    the name of another planted world.
    """
    from preferent.training import run as run_module
    from preferent.training import state
    from preferent.training.config import load_config
    from preferent.training.observer import Observer

    signal_step, number = job.get("signal_at", (0, 0))

    class Killer(Observer):
        def stepped(self, row: Any) -> None:
            if row["step"] == signal_step:
                os.kill(os.getpid(), number)

    calls = {"fsync": 0, "write": 0}
    fsync, save_file = os.fsync, state.save_file

    def counted_fsync(handle: int) -> None:
        calls["fsync"] += 1
        if calls["fsync"] == job.get("fsync_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    def torn_save(tensors: Any, path: Path) -> None:
        calls["write"] += 1
        save_file(tensors, path)
        if calls["write"] == job.get("torn_at"):
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync, state.save_file = counted_fsync, torn_save
    if job.get("die_in_finish"):
        run_module.finish = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    noise, made = job.get("noise", 0.0), crowd(60) if job.get("votes") else planted(job.get("n", 60), noise=job.get("noise", 0.0))
    held_out = planted(40, seed=1, noise=noise)
    if "world" in job:
        made, held_out = (globals()[job["world"]](n, seed=seed) for seed, n in enumerate((30, 12)))
    run_module.train(
        made,
        held_out,
        load_config(None, job["config"]),
        job["output"],
        resume=job.get("resume", False),
        observer=Killer(),
    )


def serve() -> None:
    import torch

    from preferent.training import run  # noqa: F401  so that forks need not import it

    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                run_job(json.loads(line))
            except BaseException:  # a fork must never return into the loop of its parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}), flush=True)


if __name__ == "__main__":
    serve()
