"""What settings that were not evaluated will probably score: a Gaussian process over sparsities."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ['Surrogate', 'expected_improvement']

_KNOWN = 300  # evaluations that are taken into account: the best and the latest, half of the number each
_TRENDS = (0.2, 0.5, 0.8)  # share of the variance that is a trend of single sites
_LENGTHS = (0.3, 0.7)  # how far in sparsity an interaction reaches
_NOISES = (1e-3, 1e-2, 0.1, 0.3)  # variance that no setting explains, over what one does


@dataclass(frozen=True)
class _Kernel:
    """Covariance of two settings: a linear and a quadratic trend of each site, and what sites do together.

    Args:
        trend: Share of the trends.
        length: Sparsity over which the rest changes.
    """

    trend: float
    length: float

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Between settings ``[n, sites]`` and ``[m, sites]``, as ``[n, m]``."""
        trend = (a @ b.T + (a**2) @ (b**2).T) / a.shape[1]
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        return self.trend * trend + (1 - self.trend) * np.exp(-np.maximum(squares, 0) / (2 * self.length**2))

    def diagonal(self, a: np.ndarray) -> np.ndarray:
        """Of each setting with itself, ``[n]``."""
        return self.trend * ((a**2).sum(1) + (a**4).sum(1)) / a.shape[1] + 1 - self.trend


class Surrogate:
    """Predicts accuracies from those that are known.

    What sparsity does to accuracy is mostly a sum over the sites, each one's loss growing with its sparsity, with some
    interaction; the covariance says that. Its few parameters are those of a grid under which the known accuracies are
    likeliest, so that fitting takes milliseconds and has no seed.

    Args:
        settings: Known ones, ``[n, sites]``, two at least.
        accuracies: Theirs, ``[n]``, higher is better.
        like: Another one, whose parameters are taken over.
    """

    def __init__(
        self,
        settings: Sequence[Sequence[float]],
        accuracies: Sequence[float],
        like: 'Surrogate | None' = None,
    ) -> None:
        x, y = np.asarray(settings, dtype=float), np.asarray(accuracies, dtype=float)
        if len(y) > _KNOWN:
            best = np.argsort(-y, kind='stable')[: _KNOWN // 2]
            rows = np.union1d(best, np.arange(len(y) - _KNOWN // 2, len(y)))
            x, y = x[rows], y[rows]
        self._x, self._mean, self._scale = x, float(y.mean()), float(y.std()) or 1.0
        y = (y - self._mean) / self._scale
        fits = [like._fit.again(x, y)] if like is not None else [f for kernel in _KERNELS for f in _fits(kernel, x, y)]
        self._fit = max(fits, key=lambda fit: fit.likelihood)

    def predict(self, settings: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of the accuracies of settings ``[m, sites]``, without noise."""
        x, fit = np.asarray(settings, dtype=float), self._fit
        cross = fit.vectors.T @ fit.kernel(self._x, x)
        explained = (cross**2 / fit.values[:, None]).sum(0)
        variance = np.maximum(fit.kernel.diagonal(x) - explained, 1e-12) * fit.variance
        mean = cross.T @ (fit.projected / fit.values)
        return self._mean + self._scale * mean, self._scale * np.sqrt(variance)


@dataclass(frozen=True, eq=False)
class _Fit:
    """A kernel, a noise, and what follows from them for the known settings.

    Args:
        kernel: The covariance of settings.
        noise: Variance that no setting explains, over what one does.
        vectors: Eigenvectors of the covariance of the known settings, ``[n, n]``.
        values: Its eigenvalues with the noise, ``[n]``.
        projected: The accuracies in the basis of the eigenvectors, ``[n]``.
    """

    kernel: _Kernel
    noise: float
    vectors: np.ndarray
    values: np.ndarray
    projected: np.ndarray

    @property
    def variance(self) -> float:
        """The variance under which the accuracies are likeliest."""
        return max(float((self.projected**2 / self.values).mean()), 1e-12)

    @property
    def likelihood(self) -> float:
        """Log likelihood of the accuracies at that variance, up to a constant and a factor."""
        return -len(self.values) * math.log(self.variance) - float(np.log(self.values).sum())

    def again(self, x: np.ndarray, y: np.ndarray) -> '_Fit':
        """The same kernel and noise for other known settings."""
        return next(fit for fit in _fits(self.kernel, x, y) if fit.noise == self.noise)


def _fits(kernel: _Kernel, x: np.ndarray, y: np.ndarray) -> Iterator[_Fit]:
    """The fits of a kernel with each noise, which share one eigendecomposition."""
    values, vectors = np.linalg.eigh(kernel(x, x))
    for noise in _NOISES:
        yield _Fit(kernel, noise, vectors, np.maximum(values, 0) + noise, vectors.T @ y)


_KERNELS = tuple(_Kernel(trend, length) for trend in _TRENDS for length in _LENGTHS)


def expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """By how much settings are expected to exceed the best accuracy, where they do.

    Args:
        mean: Predicted accuracies, ``[m]``.
        deviation: Their standard deviations, ``[m]``.
        best: The best known accuracy.
    """
    z = (mean - best) / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    below = 0.5 * np.array([math.erfc(-value / math.sqrt(2)) for value in z])
    return (mean - best) * below + deviation * density
