"""The benchmarks by the names of the command line, and what file each wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from preferent.audits.benchmarks import judgebench, llmbar, ppe, processbench, rewardbench, rewardbench2, rm_bench, rmb
from preferent.audits.benchmarks.items import Item, Rows
from preferent.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A reader, a scorer, and words. `steps`: its responses are one solution cut after each step, so step rewards will do."""

    name: str
    title: str
    wants: str
    read: Callable[[Rows], list[Item]]
    score: Callable[..., Any]
    source: str
    steps: bool = False


def _entry(name: str, module: Any, wants: str, *, steps: bool = False) -> Benchmark:
    return Benchmark(name, module.NAME, wants, module.rows_to_items, module.score, module.SOURCE, steps)


BENCHMARKS: dict[str, Benchmark] = {
    item.name: item
    for item in (
        _entry("rewardbench", rewardbench, "rows of allenai/reward-bench (split filtered) and, if wanted, allenai/preference-test-sets: "
               "prompt, chosen, rejected, subset"),
        _entry("rewardbench2", rewardbench2, "rows of allenai/reward-bench-2: id, prompt, chosen [..], rejected [..], subset"),
        _entry("rm-bench", rm_bench, "the authors' *_filtered.json or total_dataset.json: prompt, chosen [3], rejected [3], domain"),
        _entry("rmb", rmb, "the authors' Pairwise_set and BoN_set json files: conversation_input, chosen and reject, or bon_best and "
               "loser_list, category_path"),
        _entry("judgebench", judgebench, "the authors' jsonl files: question, response_A, response_B, label, source"),
        _entry("llmbar", llmbar, "the authors' Dataset/LLMBar/**/dataset.json: input, output_1, output_2, label; the path says the subset"),
        _entry("processbench", processbench, "rows of Qwen/ProcessBench: id, problem, steps, label", steps=True),
        _entry("ppe", ppe, "rows of lmarena-ai/PPE-Human-Preference-V1 (prompt, response_1, response_2, winner) or of PPE-*-Best-of-K "
               "(prompt, response_1 .. response_K, scores; `benchmark` or the file's name says which)"),
    )
}  # fmt: skip


def benchmark_of(name: str) -> Benchmark:
    """The benchmark of that name. Raises ConfigError that lists the names."""
    if name not in BENCHMARKS:
        raise ConfigError(f"no benchmark {name!r}; allowed: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def titles() -> Sequence[tuple[str, str, str]]:
    """(name, title, what file it wants) of every benchmark."""
    return [(item.name, item.title, item.wants) for item in BENCHMARKS.values()]
