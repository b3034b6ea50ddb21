"""The mixture of von Mises-Fisher distributions over the Earth (MvMF; Izbicki, Papalexakis, Tsotras 2019).

p(y|x) = Σ w_i(x) · vMF(y; μ_i, κ_i) with vMF(y; μ, κ) = κ · exp(κ(μ·y − 1)) / (2π(1 − e^{−2κ})).
Densities are per steradian, in natural logarithms and float64: at κ = e^16 a float32 cosine turns 0.1 km into 2 km.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from geofix.geo import FloatArray


def log_softmax(logits: ArrayLike) -> FloatArray:
    """Logarithm of the softmax over the last axis, shape kept."""
    z = np.asarray(logits, float)
    z = z - z.max(axis=-1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=-1, keepdims=True)), float)


def logsumexp(a: FloatArray) -> FloatArray:
    """Log Σ exp over the last axis; −inf where every term is −inf."""
    top = a.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):  # a row of nothing but −inf is −inf, not a warning
        return np.asarray(np.log(np.exp(a - top).sum(axis=-1)) + top[..., 0], float)


def log_vmf(xyz: ArrayLike, mu: ArrayLike, kappa: ArrayLike) -> FloatArray:
    """Log density of each component at each place.

    Args:
        xyz: unit vectors, shape (n, 3).
        mu: component means, unit vectors, shape (m, 3).
        kappa: concentrations, natural scale and positive, shape (m,).

    Returns:
        Shape (n, m). Uses κ(μ·y − 1) = −κ|μ − y|²/2, which keeps its digits where μ·y rounds to 1.
    """
    y, m, k = np.asarray(xyz, float), np.asarray(mu, float), np.asarray(kappa, float)
    chord2 = np.zeros((len(y), len(m)))
    for axis in range(3):  # three (n, m) planes instead of one (n, m, 3) block
        chord2 += (y[:, axis, None] - m[None, :, axis]) ** 2
    return np.asarray(log_normaliser(k)[None, :] - 0.5 * k[None, :] * chord2, float)


def log_normaliser(kappa: ArrayLike) -> FloatArray:
    """Log of κ / (2π(1 − e^{−2κ})), shape kept."""
    k = np.asarray(kappa, float)
    return np.asarray(np.log(k) - np.log(2 * np.pi) - np.log(-np.expm1(-2 * k)), float)


def log_density(xyz: ArrayLike, mu: ArrayLike, kappa: ArrayLike, log_weights: ArrayLike) -> FloatArray:
    """Log p(y) of the mixture at n places, with one row of log mixture weights per place, (n, m), or one for all, (m,).

    Returns:
        Shape (n,), per steradian.
    """
    return logsumexp(log_vmf(xyz, mu, kappa) + np.asarray(log_weights, float))


def density_plus_1e9(xyz: ArrayLike, mu: ArrayLike, kappa: ArrayLike, weights: ArrayLike) -> FloatArray:
    """The published code's log density: densities summed in float64 with a floor of 1e-9 under the logarithm.

    Kept for mode `reference` and for the test that shows why we do not use it: 15 km from a component of κ = e^16 it is constant.
    """
    dense = np.exp(log_vmf(xyz, mu, kappa))
    return np.asarray(np.log((dense * np.asarray(weights, float)).sum(axis=-1) + 1e-9), float)
