"""The machine's own fp32 matrix-product rate, and the matrix-product work of training: what a share of the peak is made of.

    python bench/matmul.py [--threads 1] [--seconds 1.0]

Rates are GFLOP per CPU second (a product of (n, k) and (k, m) is 2nkm operations), the best repetition of each shape; the peak is the
best of the shapes. The shapes are the products of the bench's model over 4,096 tokens, forward and backward, and a square one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from meter import Clock, one_thread, report, resident_mib

TOKENS = 4096
SHAPES = (  # n, k, m of (n, k) @ (k, m)
    (TOKENS, 384, 1024),  # up and gate, forward
    (TOKENS, 1024, 384),  # down, forward
    (TOKENS, 384, 384),  # queries and output, forward
    (384, TOKENS, 1024),  # gradient of a weight
    (1024, 1024, 1024),
)


def rate(shape: tuple[int, int, int], seconds: float) -> float:
    """GFLOP per CPU second of the best of repetitions that fill `seconds`; each is long enough for the clock (>= 50 ms)."""
    import torch

    n, k, m = shape
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(n, k, generator=generator), torch.randn(k, m, generator=generator)
    out = torch.empty(n, m)
    work = 2.0 * n * k * m
    torch.mm(left, right, out=out)
    start = Clock.now()
    torch.mm(left, right, out=out)
    inner = max(1, int(0.05 / max((Clock.now() - start).cpu, 1e-6)))
    best, begin = 0.0, Clock.now()
    while (Clock.now() - begin).wall < seconds:
        start = Clock.now()
        for _ in range(inner):
            torch.mm(left, right, out=out)
        best = max(best, inner * work / (Clock.now() - start).cpu)
    return best / 1e9


@dataclass(frozen=True, slots=True)
class Work:
    """Floating-point operations of the matrix products of one decoder with a scalar head (norms, softmax, rotations are not counted).

    linear: weights in the linear layers of all blocks. attention: layers * heads * head_dim. feed_forward: weights of one block.
    """

    linear: int
    attention: int
    feed_forward: int
    layers: int

    @classmethod
    def of(cls, model: dict[str, Any]) -> Work:
        """From the config's sizes, as in fixtures.MODEL."""
        hidden, layers = model["hidden_size"], model["num_hidden_layers"]
        heads, keys, width = model["num_attention_heads"], model["num_key_value_heads"], model["head_dim"]
        attention = hidden * width * (2 * heads + 2 * keys)  # q and o; k and v
        feed_forward = 3 * hidden * model["intermediate_size"]  # gate, up, down
        linear = layers * (attention + feed_forward)
        return cls(linear=linear, attention=layers * heads * width, feed_forward=feed_forward, layers=layers)

    def forward(self, tokens: int, visible: int) -> float:
        """`visible`: (query, key) pairs that the attention mask lets through, summed over the tokens."""
        return 2.0 * self.linear * tokens + 4.0 * self.attention * visible

    def training(self, tokens: int, visible: int) -> float:
        """Forward and backward: every product has two products in the backward pass. Recomputation is not counted."""
        return 3.0 * self.forward(tokens, visible)

    def unread(self, tokens: int, visible: int, read: int, visible_read: int) -> float:
        """What `training` counts too much where the last layer finishes only the `read` tokens that a reward is read at: its
        feed-forward block for the others, and its attention beyond the `visible_read` pairs of those queries."""
        return 3.0 * (2.0 * self.feed_forward * (tokens - read) + 4.0 * self.attention / self.layers * (visible - visible_read))


def causal(tokens: int) -> int:
    """(query, key) pairs of one causal sequence."""
    return tokens * (tokens + 1) // 2


def tree_size(prompt: int, responses: Sequence[int]) -> tuple[int, int]:
    """(tokens, visible pairs) of a prompt held once and responses that each see the prompt and themselves."""
    tokens = prompt + sum(responses)
    return tokens, causal(prompt) + sum(prompt * r + causal(r) for r in responses)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each shape")
    given = parser.parse_args()
    one_thread(given.threads)
    start_rss, begin = resident_mib(), Clock.now()
    rates = {"x".join(map(str, shape)): round(rate(shape, given.seconds), 2) for shape in SHAPES}
    spent = Clock.now() - begin
    report(
        task="matmul",
        contestant="machine",
        config=vars(given),
        rates=rates,
        peak_gflops=max(rates.values()),
        cpu_seconds=spent.cpu,
        wall_seconds=spent.wall,
        start_rss_mib=round(start_rss, 1),
    )


if __name__ == "__main__":
    main()
