"""ODIN: a quality head that does not follow length, and a length head that takes it up (Chen et al. 2024, "ODIN: Disentangled Reward
Mitigates Hacking in RLHF").

With q the quality head and l the length head, both linear on the same features, and L the length of the response alone:

    ranking        q + l is what the labels are compared with                                     (eq. 3)
    length         |rho(q, L)| - rho(l, L), rho: Pearson's correlation over the step              (eq. 4; squared here by default)
    orthogonality  |w_q . w_l|, of the normalised weights                                         (eq. 5; squared here by default)

Afterwards q alone is the reward. The correlation is that of all responses of the optimiser step, however many passes and processes
they are spread over: sums (`moments`) are collected first, and every pass then adds its part of the exact gradient (`surrogate`).

Legend: R responses, C columns, 6 moments.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Below this variance a column is constant and has no correlation.
_TINY = 1e-12


def moments(value_RC: Tensor, length_R: Tensor) -> Tensor:
    """Sums over responses of (1, v, v^2, v L, L, L^2) for every column, shape (6, C); they add up over passes and processes."""
    value_RC = value_RC.double()
    length_R1 = length_R.to(value_RC)[:, None]
    ones_RC = torch.ones_like(value_RC)
    parts = (ones_RC, value_RC, value_RC.square(), value_RC * length_R1, ones_RC * length_R1, ones_RC * length_R1.square())
    return torch.stack([part.sum(0) for part in parts])


def correlation(moments_6C: Tensor) -> Tensor:
    """Pearson's correlation of every column with length, shape (C,); 0 where one of the two is constant."""
    n_C, v_C, vv_C, vl_C, l_C, ll_C = moments_6C / moments_6C[0].clamp(min=1.0)
    variance_C, spread_C = vv_C - v_C.square(), ll_C - l_C.square()
    defined_C = (variance_C > _TINY) & (spread_C > _TINY)
    # Not after the division: 0 * infinity in the gradient is no number.
    scale_C = torch.where(defined_C, variance_C * spread_C, torch.ones_like(variance_C)).sqrt()
    return torch.where(defined_C, (vl_C - v_C * l_C) / scale_C, 0.0 * n_C)


def length_penalty(rho_Q: Tensor, rho_L: Tensor, *, squared: bool) -> Tensor:
    """Mean over the quality columns of rho^2 (or |rho|), less the mean over the length columns of rho: a scalar."""
    return (rho_Q.square() if squared else rho_Q.abs()).mean() - rho_L.mean()


def orthogonality_penalty(cosine_K: Tensor, *, squared: bool) -> Tensor:
    """Mean of cos^2 (or |cos|): a scalar."""
    return (cosine_K.square() if squared else cosine_K.abs()).mean()


def surrogate(moments_6C: Tensor, total_6C: Tensor, n_quality: int, *, squared: bool) -> tuple[Tensor, Tensor]:
    """A scalar whose gradient is this pass's part of the gradient of `length_penalty` over the whole step, and that penalty itself.

    moments_6C: of this pass, with its graph. total_6C: of the step, this pass included. The first `n_quality` columns are quality.
    """
    with torch.enable_grad():
        whole_6C = total_6C.detach().clone().requires_grad_()
        rho_C = correlation(whole_6C)
        penalty = length_penalty(rho_C[:n_quality], rho_C[n_quality:], squared=squared)
        (slope_6C,) = torch.autograd.grad(penalty, whole_6C)
    return (slope_6C * moments_6C).sum(), penalty.detach()
