"""What is trained on top of the backbone: the mixture head and the residual retrieval module."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class MixtureHead(nn.Module):
    """Feature (n, d) to log mixture weights (n, cells) of an MvMF (Izbicki et al. 2019), with the components' means and kappas.

    The published head is one linear layer; `hidden` > 0 puts one hidden layer before it. Means and kappas are learned
    and shared by all images; the published kappa starts at e^16, ours near the spread inside a cell, so that far images
    still give gradient.
    """

    def __init__(self, dim: int, means_xyz: Tensor, kappas: Tensor, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.body: nn.Module = nn.Identity()
        if hidden:
            self.body = nn.Sequential(nn.Linear(dim, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout))
        self.linear = nn.Linear(hidden or dim, len(means_xyz))
        self.means = nn.Parameter(means_xyz.double())
        self.log_kappa = nn.Parameter(kappas.double().log())

    def forward(self, feature: Tensor) -> Tensor:
        """Features (n, d) to log mixture weights (n, cells)."""
        return functional.log_softmax(self.linear(self.body(feature)), dim=1)

    def unit_means(self) -> Tensor:
        """Means as unit vectors, (cells, 3), float64."""
        return functional.normalize(self.means, dim=1)

    def log_density(self, log_weights: Tensor, xyz: Tensor) -> Tensor:
        """Log p(y), per steradian, at unit vectors (n, 3): see `mvmf_log_density`."""
        return mvmf_log_density(log_weights, xyz, self.unit_means(), self.log_kappa.exp())


def mvmf_log_density(log_weights: Tensor, xyz: Tensor, means: Tensor, kappas: Tensor) -> Tensor:
    """Log Σ w_i vMF(y; μ_i, κ_i) at n places, (n,), float64, by logsumexp over κ(μ·y − 1) = −κ|μ − y|²/2.

    Args:
        log_weights: (n, m).
        xyz: unit vectors, (n, 3).
        means: unit vectors, (m, 3).
        kappas: natural scale, (m,).
    """
    y, mu, kappa = xyz.double(), means.double(), kappas.double()
    chord2 = sum((y[:, axis, None] - mu[None, :, axis]) ** 2 for axis in range(3))
    normaliser = kappa.log() - math.log(2 * math.pi) - torch.log(-torch.expm1(-2 * kappa))
    return torch.logsumexp(log_weights.double() + normaliser - 0.5 * kappa * chord2, dim=1)


class _Residual(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.fc2(functional.relu(self.fc1(x))) + x)
        return out


class RetrievalModule(nn.Module):
    """The residual retrieval module of Search within Cell: feature (n, d) to unit embedding, under the published parameter names.

    LayerNorm, then a residual block FC(d, hidden), ReLU, FC(hidden, d), skip, LayerNorm; then L2. With `out_dim` a linear
    projection stands before the L2, so that a gallery of many rows stays small.

    Attributes:
        out_dim: values of an embedding, e.
    """

    projection: nn.Module

    def __init__(self, dim: int, hidden: int = 4096, out_dim: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.res = _Residual(dim, hidden)
        self.projection = nn.Linear(dim, out_dim, bias=False) if out_dim else nn.Identity()
        self.out_dim = out_dim or dim

    def forward(self, feature: Tensor) -> Tensor:
        """Features (n, d) to unit embeddings (n, e)."""
        return functional.normalize(self.projection(self.res(self.norm(feature))), dim=1)

    def begin_as_features(self, features: Tensor) -> None:
        """Begin where cosines of embeddings are those of features, (n, d), as nearly as the embedding's width lets them.

        The residual begins at zero (as in Goyal et al. 2017), the projection with the principal components of what it gets.
        """
        nn.init.zeros_(self.res.fc2.weight)
        nn.init.zeros_(self.res.fc2.bias)
        if isinstance(self.projection, nn.Linear):
            with torch.no_grad():
                given = self.res(self.norm(features)).double()
                _, vectors = torch.linalg.eigh(given.T @ given)
                self.projection.weight.copy_(vectors.flip(1)[:, : self.projection.out_features].T)


def multi_positive_loss(similarity: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """Mean of −log of the softmax mass on the positives (Khosla et al. 2020, positives summed inside the logarithm).

    Args:
        similarity: cosines of n queries and m gallery images, (n, m).
        positive: how much each gallery image counts as the query's place, 0 to 1, (n, m); rows without any are left out.
        temperature: of the softmax.
    """
    logits = similarity / temperature
    mass = torch.logsumexp(logits + torch.log(positive.clamp_min(1e-12)), dim=1) - torch.logsumexp(logits, dim=1)
    has_positive = positive.max(dim=1).values > 0.1
    return -mass[has_positive].mean()
