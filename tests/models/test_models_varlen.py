"""The variable-length call of the GPU path, carried out here by a reference that reads the same plan.

Legend: H heads, T tokens, D head size.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from preferent.models.attention import VarlenPlan, packed_attention, segment_attention, varlen_plan  # noqa: E402
from preferent.models.packing import Layout, pack  # noqa: E402


def reference_varlen(q_TND, k_TND, v_TND, plan: VarlenPlan, *, scale: float, window: tuple[int, int]):  # type: ignore[no-untyped-def]
    """torch.nn.attention.varlen.varlen_attn in plain words, in float64.

    Sequence i has queries starts_q[i]:starts_q[i+1] and keys starts_k[i]:starts_k[i+1]. The last query stands at the last key
    (bottom right); a query at place p sees the keys from p - left to p + right, -1 meaning no bound.
    """
    left, right = window
    out = torch.zeros_like(q_TND, dtype=torch.float64)
    for i in range(len(plan.starts_q) - 1):
        (q0, q1), (k0, k1) = plan.starts_q[i : i + 2].tolist(), plan.starts_k[i : i + 2].tolist()
        assert q1 - q0 <= plan.max_q
        assert k1 - k0 <= plan.max_k
        for row in range(q0, q1):
            place = (row - q0) + (k1 - k0) - (q1 - q0)
            low = 0 if left < 0 else max(0, place - left)
            high = k1 - k0 if right < 0 else min(k1 - k0, place + right + 1)
            keys, values = k_TND[k0 + low : k0 + high].double(), v_TND[k0 + low : k0 + high].double()
            weights = (torch.einsum("nd,knd->nk", q_TND[row].double(), keys) * scale).softmax(-1)
            out[row] = torch.einsum("nk,knd->nd", weights, values)
    return out


def layouts() -> dict[str, Layout]:
    prompt = list(range(20))
    shared = [[[*prompt, 1, 2, 3], [*prompt, 4], [*prompt, 5, 6, 7, 8, 9]], [[1, 2, 3, 4, 5, 6, 7]], [[9]]]
    return {
        "shared": pack(shared).layout,
        "packed": pack(shared, share=False).layout,
        "encoder": pack(shared, share=False, causal=False).layout,
    }


def qkv(n_tokens: int, heads: int, groups: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(1, n, n_tokens, 8, generator=generator) for n in (heads, groups, groups))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["shared", "packed", "encoder"])
@pytest.mark.parametrize("window", [None, 3, 21])
def test_the_plan_carried_out_is_segment_attention(kind: str, window: int | None) -> None:
    layout = layouts()[kind]
    n_tokens = layout.segments[-1].start + layout.segments[-1].length
    query, key, value = qkv(n_tokens, heads=4, groups=4)
    expected = segment_attention(query, key, value, layout, (0.3, None, 0.0), window=window)
    plan = varlen_plan(layout, query.device)
    q_TND, k_TND, v_TND = (x[0].transpose(0, 1) for x in (query, key, value))
    if plan.gather_K is not None:
        k_TND, v_TND = k_TND[plan.gather_K], v_TND[plan.gather_K]
    left = -1 if window is None else window
    out_TND = reference_varlen(q_TND, k_TND, v_TND, plan, scale=0.3, window=(left, 0 if layout.causal else left))
    np.testing.assert_allclose(out_TND.transpose(0, 1)[None].numpy(), expected.numpy(), atol=1e-6)


def test_a_worked_plan() -> None:
    # 20 shared tokens; tails of 3, 1 and 5, then lone sequences of 7 and 1. Queries: 23, 1, 5, 7, 1. Keys: 23, 21, 25, 7, 1.
    plan = VarlenPlan(layouts()["shared"], torch.device("cpu"))
    assert plan.starts_q.tolist() == [0, 23, 24, 29, 36, 37]
    assert plan.starts_k.tolist() == [0, 23, 44, 69, 76, 77]
    assert (plan.max_q, plan.max_k) == (23, 25)
    assert plan.starts_q.dtype == plan.starts_k.dtype == torch.int32
    assert plan.gather_K is not None
    gathered = plan.gather_K.tolist()
    assert gathered[:23] == list(range(23))
    assert gathered[23:44] == [*range(20), 23]
    assert gathered[44:69] == [*range(20), *range(24, 29)]
    assert gathered[69:] == list(range(29, 37))


def test_without_sharing_nothing_is_gathered() -> None:
    assert VarlenPlan(layouts()["packed"], torch.device("cpu")).gather_K is None


def test_the_plan_is_built_once_per_row() -> None:
    layout = layouts()["shared"]
    assert varlen_plan(layout, torch.device("cpu")) is varlen_plan(layout, torch.device("cpu"))


def test_a_moved_batch_forgets_tensors_of_the_other_device() -> None:
    batch = pack([[[1, 2, 3]]])
    varlen_plan(batch.layout, torch.device("cpu"))
    assert batch.to("cpu").layout.cache == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: the variable-length kernel has no CPU build")
@pytest.mark.parametrize("kind", ["shared", "packed", "encoder"])
@pytest.mark.parametrize("window", [None, 4])
def test_the_kernel_itself_agrees_in_bf16(kind: str, window: int | None) -> None:
    layout = layouts()[kind]
    n_tokens = layout.segments[-1].start + layout.segments[-1].length
    query, key, value = (x.to("cuda", torch.bfloat16) for x in qkv(n_tokens, heads=4, groups=2))
    module = torch.nn.Identity()
    out, _ = packed_attention(module, query, key, value, None, layout=Layout(layout.segments, layout.causal), sliding_window=window)
    expected, _ = packed_attention(module, *(x.float().cpu() for x in (query, key, value)), None, layout=layout, sliding_window=window)
    assert float((out.float().cpu() - expected).abs().max()) < 2e-2
