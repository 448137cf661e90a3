"""What settings that were not evaluated will probably score: a Gaussian process over sparsities."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

__all__ = ['Surrogate', 'expected_improvement']

_LATEST = 400  # evaluations that are taken into account: the best half of them and the latest
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
    """

    def __init__(self, settings: Sequence[Sequence[float]], accuracies: Sequence[float]) -> None:
        x, y = np.asarray(settings, dtype=float), np.asarray(accuracies, dtype=float)
        if len(y) > _LATEST:
            best = np.argsort(-y, kind='stable')[: _LATEST // 2]
            rows = np.union1d(best, np.arange(len(y) - _LATEST // 2, len(y)))
            x, y = x[rows], y[rows]
        self._x, self._mean = x, float(y.mean())
        self._scale = float(y.std()) or 1.0
        self._y = (y - self._mean) / self._scale
        self._kernel, self._noise = max(self._grid(), key=lambda pair: self._likelihood(*pair))
        self._factor = self._factorise(self._kernel, self._noise)
        self._weights = _solve(self._factor, self._y)
        self._variance = max(float(self._y @ self._weights) / len(y), 1e-12)

    def predict(self, settings: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of the accuracies of settings ``[m, sites]``, without noise."""
        x = np.asarray(settings, dtype=float)
        cross = self._kernel(self._x, x)
        mean = cross.T @ self._weights
        explained = (cross * _solve(self._factor, cross)).sum(0)
        variance = np.maximum(self._kernel.diagonal(x) - explained, 1e-12) * self._variance
        return self._mean + self._scale * mean, self._scale * np.sqrt(variance)

    def _grid(self) -> Iterator[tuple[_Kernel, float]]:
        for trend, length, noise in product(_TRENDS, _LENGTHS, _NOISES):
            yield _Kernel(trend, length), noise

    def _factorise(self, kernel: _Kernel, noise: float) -> np.ndarray:
        return np.linalg.cholesky(kernel(self._x, self._x) + (noise + 1e-9) * np.eye(len(self._x)))

    def _likelihood(self, kernel: _Kernel, noise: float) -> float:
        """Log likelihood of the accuracies at the variance that makes it greatest, up to a constant."""
        factor = self._factorise(kernel, noise)
        fit = float(self._y @ _solve(factor, self._y)) / len(self._y)
        return -len(self._y) * math.log(max(fit, 1e-12)) - 2 * float(np.log(np.diag(factor)).sum())


def _solve(factor: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The solution of ``A x = b`` from the Cholesky factor of ``A``."""
    return np.linalg.solve(factor.T, np.linalg.solve(factor, b))


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
