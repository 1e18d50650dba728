"""How sure the last layer is: a Gaussian around its weight, of which rewards and their differences get a standard deviation.

The last layer w is a logistic regression on differences of features x = f_i - f_j with the likelihood of the labels,
sigma(w x / T). Laplace's approximation of its posterior under a prior N(0, I / tau) is N(w, S) with

    S^-1 = sum_e weight_e s_e (1 - s_e) x_e x_e' / T^2 + tau I,  s_e = sigma(w x_e / T)

(MacKay 1992; Daxberger et al. 2021, "Laplace redux", sec. 3; for reward models Yang et al. 2024, 2402.13210). tau is given, or the one
with the highest evidence. A difference of rewards then has the variance (f_i - f_j)' S (f_i - f_j). The reward alone has no location
that comparisons could know, so its variance is that of the difference from the mean response: (f - m)' S (f - m).

It knows nothing of what the features of the backbone cannot tell apart, and nothing of labels that are wrong in the same way.

Legend: E comparisons, N responses, W width of the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit

from preferent.core.errors import FitError, ModelError
from preferent.core.records import Floats, Record, Weight
from preferent.models.module import RewardModule

# tau is looked for between these, as multiples of the mean curvature of the likelihood.
_GRID = np.geomspace(1e-4, 1e4, 81)
FEWEST = 20


class LaplaceSpec(Record):
    """prior_precision: tau. chosen: how it came about. temperature: T of the likelihood. n_pairs: comparisons it rests on. width: of the
    features."""

    prior_precision: Weight
    chosen: str
    temperature: Weight
    n_pairs: int
    width: int


@dataclass(frozen=True, slots=True)
class Laplace:
    """root_WW: a square root of the covariance, S = root root', lower triangular. mean_W: m, the mean features."""

    spec: LaplaceSpec
    root_WW: Floats
    mean_W: Floats

    def std(self, features_NW: Floats) -> Floats:
        """Standard deviation of each reward, as its difference from the mean response, shape (N,)."""
        return self.difference_std(features_NW, self.mean_W)

    def difference_std(self, features_NW: Floats, others_NW: Floats) -> Floats:
        """Standard deviation of the difference of two rewards, row by row, shape (N,)."""
        return np.sqrt(np.square((features_NW - others_NW) @ self.root_WW).sum(-1))

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint holds: the lower triangle of the root row by row, and the mean, in fp32."""
        packed = self.root_WW[np.tril_indices(len(self.root_WW))]
        return {"root": torch.from_numpy(packed).float(), "mean": torch.from_numpy(self.mean_W).float()}


def from_tensors(spec: LaplaceSpec, tensors: dict[str, torch.Tensor]) -> Laplace:
    """The inverse of `Laplace.tensors`. Raises ModelError when they are of another width."""
    width = spec.width
    if set(tensors) != {"root", "mean"} or len(tensors["mean"]) != width or len(tensors["root"]) != width * (width + 1) // 2:
        raise ModelError("laplace.safetensors does not fit its card", hint="fit it again: preferent calibrate --laplace")
    root_WW = np.zeros((width, width))
    root_WW[np.tril_indices(width)] = tensors["root"].double().numpy()
    return Laplace(spec, root_WW, tensors["mean"].double().numpy())


def fit_laplace(
    features_NW: Floats,
    pairs_E2: np.ndarray,
    weight_W: Floats,
    *,
    weight_E: Floats | None = None,
    temperature: float = 1.0,
    prior_precision: float | None = None,
) -> Laplace:
    """Laplace's approximation for the last layer `weight_W`, as trained.

    features_NW: of every response. pairs_E2: rows (i, j) of `features_NW` that were compared. weight_E > 0: of each comparison. Raises
    FitError for fewer than 20 comparisons, or features that never differ.
    """
    if len(pairs_E2) < FEWEST:
        raise FitError(f"Laplace: {len(pairs_E2)} comparisons, needs {FEWEST} or more", hint="give it the training pairs")
    x_EW = (features_NW[pairs_E2[:, 0]] - features_NW[pairs_E2[:, 1]]) / temperature
    logit_E = x_EW @ weight_W
    mass_E = np.ones(len(x_EW)) if weight_E is None else np.asarray(weight_E, dtype=np.float64)
    win_E = expit(logit_E)
    curvature_WW = (x_EW * (mass_E * win_E * (1.0 - win_E))[:, None]).T @ x_EW
    value_W, axis_WW = np.linalg.eigh(curvature_WW)
    value_W = np.maximum(value_W, 0.0)
    scale = float(value_W.mean())
    if not scale > 0.0:
        raise FitError("Laplace: the features of compared responses never differ, so nothing is known of the last layer")
    chosen = "as set"
    if prior_precision is None:
        prior_precision, chosen = _highest_evidence(value_W, weight_W, scale), "the highest evidence"
    covariance_WW = (axis_WW / (value_W + prior_precision)) @ axis_WW.T
    root_WW = np.linalg.cholesky((covariance_WW + covariance_WW.T) / 2.0)
    # As the file holds it, so that a model says the same before and after it was saved.
    root_WW, mean_W = (array.astype(np.float32).astype(np.float64) for array in (root_WW, features_NW.mean(0)))
    spec = LaplaceSpec(prior_precision=prior_precision, chosen=chosen, temperature=temperature, n_pairs=len(pairs_E2), width=len(weight_W))
    return Laplace(spec, root_WW, mean_W)


def _highest_evidence(value_W: Floats, weight_W: Floats, scale: float) -> float:
    """tau with the highest log evidence, up to what does not depend on it: W log tau - tau |w|^2 - log det(curvature + tau I)."""
    grid = _GRID * scale
    evidence = [len(value_W) * np.log(tau) - tau * float(weight_W @ weight_W) - np.log(value_W + tau).sum() for tau in grid]
    return float(grid[int(np.argmax(evidence))])


@contextmanager
def reading_features(module: RewardModule) -> Iterator[list[torch.Tensor]]:
    """While inside, the features of every sequence that is scored are put into the list, pass by pass, each (R, W)."""
    seen: list[torch.Tensor] = []
    reader = module.linear if module.heads is None else module.heads
    hook = reader.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().float()))
    try:
        yield seen
    finally:
        hook.remove()


def in_order(seen: Sequence[torch.Tensor], order: Sequence[int], width: int) -> torch.Tensor:
    """Features as they were seen, pass by pass, as one tensor in the order of the rows, shape (N, W) on the CPU. What was seen before the
    rows of `order` (when a scorer compared its paths) is left out."""
    features_NW = torch.empty(len(order), width)
    if order:
        features_NW[torch.tensor(order, dtype=torch.long)] = torch.cat(list(seen))[-len(order) :].cpu()
    return features_NW
