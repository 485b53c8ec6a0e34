"""Variance components of a two-way table with one value per cell: physicians, cases and the rest."""

from __future__ import annotations

import numpy as np


def mean_squares(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares and degrees of freedom of rows, columns and rest, of a two-way layout with one value a cell.

    Raises:
        ValueError: an empty cell, or fewer than two rows or columns.
    """
    cells = np.asarray(cells, dtype=float)
    n_rows, n_columns = cells.shape
    if min(cells.shape) < 2 or np.isnan(cells).any():
        raise ValueError("the variance can be divided only when every physician has a note of every case, two or more")
    rows, columns = cells.mean(axis=1, keepdims=True), cells.mean(axis=0, keepdims=True)
    rest = cells - rows - columns + cells.mean()
    squares = np.array([n_columns * rows.var() * n_rows, n_rows * columns.var() * n_columns, (rest**2).sum()])
    freedom = np.array([n_rows - 1, n_columns - 1, (n_rows - 1) * (n_columns - 1)])
    return squares / freedom, freedom


def variance_components(cells: np.ndarray) -> np.ndarray:
    """Variances of physician (rows), case (columns) and rest, of a crossed design with one note a cell.

    Model: F1 = mean + physician + case + rest, all three random and independent. In expectation the mean square of
    physicians is σ²_rest + n_cases·σ²_physician, that of cases σ²_rest + n_physicians·σ²_case, and that of the rest
    σ²_rest; solved for the variances, negative ones set to 0. The rest holds the interaction and the chance of a note.

    Source: the ANOVA estimator; Searle, Casella and McCulloch 1992, Variance Components, chapter 4.
    """
    return _solve(mean_squares(cells)[0], np.shape(cells))


def _solve(squares: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Variances of rows, columns and rest from their mean squares (last axis)."""
    n_rows, n_columns = shape
    row, column, rest = squares[..., 0], squares[..., 1], squares[..., 2]
    return np.stack([np.maximum(0, (row - rest) / n_columns), np.maximum(0, (column - rest) / n_rows), rest], axis=-1)


def component_draws(cells: np.ndarray, *, n_boot: int = 1000, seed: int = 0) -> np.ndarray:
    """Generalised pivotal draws of the three variances, shape (n_boot, 3); their percentiles are the intervals.

    Mean square · df / σ² follows χ² with df degrees of freedom if the effects are normal. So values of σ² that agree
    with the data are drawn as mean square · df / χ², and solved as the estimates are (a generalised interval). Drawing
    whole physicians and cases instead would put the same note twice into a table and mistake that for agreement.

    Source: Weerahandi 1993, Generalized Confidence Intervals, Journal of the American Statistical Association 88.
    """
    squares, freedom = mean_squares(cells)
    chance = np.random.default_rng(seed).chisquare(freedom, size=(n_boot, 3))
    return _solve(squares * freedom / chance, np.shape(cells))
