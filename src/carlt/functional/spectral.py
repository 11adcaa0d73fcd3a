"""The leading singular triplet of a matrix, without an SVD."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

SMALL = 128  # at most this many rows and columns: squaring the Gram matrix is quickest
LARGE = 2048  # up to this many rows, reading all of them costs less than choosing some
FALLBACK = 1024  # at most this many rows or columns: an exact decomposition where nothing quick converges
MAX_SQUARINGS = 8
MAX_STEPS = 64
CHUNK_BYTES = {"cpu": 1 << 20, "cuda": 32 << 20}  # fits the cache: read from memory once, used twice


class Triplet(NamedTuple):
    """sigma (), u (R,), v (C,) with M v = sigma u, and ``error``, about the sine of v's angle to the exact one."""

    sigma: Tensor
    u: Tensor
    v: Tensor
    error: float


@torch.no_grad()
def leading_triplet(
    matrix: Tensor, row_weight: Tensor, start: Tensor, rows: Tensor | None = None, tol: float | None = None
) -> Triplet:
    """Largest singular value of M = diag(row_weight) matrix and its vectors, so that d sigma = u^T dM v.

    Small matrices by squaring, others by Lanczos; where that does not converge within its cap and the matrix is not
    large, by an exact decomposition. ``matrix`` is never copied, and a CUDA device is waited for only every few steps.

    Args:
        matrix: (R, C), float32 or float64.
        row_weight: (R,).
        start: a guess of v, (C,); any vector that is not orthogonal to it.
        rows: indices of the rows to use, int64; the others count as zero; None for all.
        tol: bound on the sine of v's angle to the exact one, and so on the relative error of u v^T; sigma's is of
            second order in it. Default eps^(2/3): 2e-5 in float32, 4e-11 in float64.

    Returns:
        The triplet, u in all R rows; for an all-zero matrix sigma = 0 and u = 0.
    """
    tol = torch.finfo(matrix.dtype).eps ** (2 / 3) if tol is None else tol
    if max(matrix.shape) <= SMALL:
        v, error = squaring(row_weight[:, None] * matrix, tol)
    else:
        v, error = lanczos(gram_product(matrix, row_weight, rows), start, min(MAX_STEPS, *matrix.shape), tol)
    if error > tol and min(matrix.shape) <= FALLBACK:
        chosen = slice(None) if rows is None else rows
        v, error = exact(matrix[chosen], row_weight[chosen]), 0.0
    u = torch.zeros_like(row_weight)
    for part, piece in pieces(matrix, rows):
        u[part] = row_weight[part] * piece.mv(v)
    sigma = torch.linalg.vector_norm(u)
    return Triplet(sigma, unit(u, sigma), v, error)


def squaring(m: Tensor, tol: float) -> tuple[Tensor, float]:
    """v of a small M (R, C): (M^T M)^(2^k) tends to rank one, lambda v v^T. Returns v (C,) and its error.

    With its norm kept at 1, the norm of the next square falls short of 1 by about the ratio of that square's two
    leading values; each product with the square brings v closer by the same ratio.
    """
    on_cpu = m.device.type == "cpu"  # on other devices the check costs more than a further step
    power = m.T @ m
    power = unit(power, torch.linalg.vector_norm(power))
    for _ in range(MAX_SQUARINGS):
        power = power @ power
        norm = torch.linalg.vector_norm(power)
        power = unit(power, norm)
        if on_cpu and (1 - float(norm)) ** 4 <= tol:
            break
    v = power.index_select(0, power.diagonal().argmax()[None])[0]
    for _ in range(3):
        v = power.mv(v)
    return unit(v), abs(1 - float(norm)) ** 4


@torch.no_grad()
def sparse_norm(row: Tensor, column: Tensor, value: Tensor) -> Tensor:
    """Largest singular value of the matrix with ``value`` at (``row``, ``column``) and 0 elsewhere, a float64 scalar.

    By Lanczos: memory and each step grow with the number P of cells, not with the size of the matrix.

    Args:
        row, column: int64, (P,), each pair once.
        value: at least 0, floating, (P,).
    """
    value = value.double()
    rows, row = row.unique(return_inverse=True)
    columns, column = column.unique(return_inverse=True)
    if not value.any():
        return value.new_zeros(())

    def product(v: Tensor) -> Tensor:
        return value.new_zeros(len(rows)).index_add_(0, row, value * v[column])

    def gram(v: Tensor) -> Tensor:
        return value.new_zeros(len(columns)).index_add_(0, column, value * product(v)[row])

    # No entry of the leading vector is negative (Perron and Frobenius), so ones are never orthogonal to it.
    start = value.new_ones(len(columns))
    v, _ = lanczos(gram, start, min(2 * MAX_STEPS, len(rows), len(columns)), tol=1e-5)  # sigma is of second order in it
    return torch.linalg.vector_norm(product(v))


def gram_product(matrix: Tensor, row_weight: Tensor, rows: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The product of a vector (C,) with M^T M, M = diag(row_weight) matrix."""
    squared = row_weight.square()

    def product(v: Tensor) -> Tensor:
        result = torch.zeros_like(v)
        for part, piece in pieces(matrix, rows):
            result.addmv_(piece.T, squared[part] * piece.mv(v))
        return result

    return product


def lanczos(gram: Callable[[Tensor], Tensor], start: Tensor, most: int, tol: float) -> tuple[Tensor, float]:
    """v by Lanczos on M^T M with full reorthogonalisation. Returns v (C,) and its error, residual / gap.

    Golub-Kahan's bidiagonalisation spans the same space; on M^T M each row is read once per step, not twice. The
    smallest singular values suffer from the square, the largest does not.

    Args:
        gram: the product of a vector (C,) with M^T M.
        start: (C,).
        most: the most steps, at most the rank of M if that is known.
        tol: of the error.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., sections 10.1 and 10.4; the error bound: Parlett, The
    Symmetric Eigenvalue Problem, theorem 11.7.1.
    """
    tiny, eps = torch.finfo(start.dtype).tiny, torch.finfo(start.dtype).eps
    first, every = (4, 1) if start.device.type == "cpu" else (8, 4)  # each check makes the GPU wait
    basis = start.new_empty(most, len(start))
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    q = unit(start)
    for step in range(1, len(basis) + 1):
        basis[step - 1] = q
        known = basis[:step]
        q = gram(q)
        inner = known.mv(q)
        q = torch.addmv(q, known.T, inner, alpha=-1)
        q = torch.addmv(q, known.T, known.mv(q), alpha=-1)  # once leaves q not quite orthogonal
        norm = torch.linalg.vector_norm(q)
        q /= norm.clamp_min(tiny)
        diagonal.append(inner[-1])
        beside.append(norm)
        if step == len(basis) or (step >= first and step % every == 0):
            alpha, beta = torch.stack(diagonal + beside).double().cpu().chunk(2)
            values, vectors = torch.linalg.eigh(torch.diag(alpha) + torch.diag(beta[:-1], -1))  # reads the lower half
            residual = float(beta[-1] * vectors[-1, -1].abs())
            if residual <= 4 * eps * float(values[-1]):  # as exact as this precision gets
                residual = 0.0
            gap = float(values[-1] - values[-2]) if step > 1 else torch.inf
            error = residual / gap if gap > residual else float(residual > 0)
            if error <= tol:
                break
    return unit(vectors[:, -1].to(start) @ known), error


def exact(matrix: Tensor, row_weight: Tensor) -> Tensor:
    """v (C,) by eigendecomposition of the smaller Gram matrix in float64."""
    m = row_weight.double()[:, None] * matrix.double()
    if len(m) < m.shape[1]:
        v = m.T.mv(torch.linalg.eigh(m @ m.T).eigenvectors[:, -1])
    else:
        v = torch.linalg.eigh(m.T @ m).eigenvectors[:, -1]
    return unit(v).to(matrix)


def active_rows(norms: Tensor, floor: Tensor, tail: float = 1e-5) -> Tensor | None:
    """The fewest rows of M that carry its leading triplet.

    Rows left out change sigma^2 by at most their energy, the sum of their squared norms. That is held at ``tail`` of
    sigma^2's lower bound, so sigma is off by a relative tail / 2 at most, and v by about tail.

    Args:
        norms: of M's rows, (R,).
        floor: a lower bound of sigma, scalar; the largest row's norm is another.

    Returns:
        Indices, ascending; None where they are more than half: rows in place are read faster than chosen ones copied.
    """
    energy, order = norms.double().square().cpu().sort()
    bound = torch.maximum(energy[-1], floor.double().square().cpu())
    dropped = int((energy.cumsum(0) <= tail * bound).sum())
    return None if 2 * dropped < len(norms) else order[dropped:].sort().values.to(norms.device)


def pieces(matrix: Tensor, rows: Tensor | None) -> Iterator[tuple[slice | Tensor, Tensor]]:
    """(which rows, those rows) in pieces that fit the cache: views where all are wanted, else one copied at a time."""
    size = max(1, CHUNK_BYTES.get(matrix.device.type, CHUNK_BYTES["cuda"]) // (matrix.shape[1] * matrix.element_size()))
    if rows is None:
        for first in range(0, len(matrix), size):
            part = slice(first, first + size)
            yield part, matrix[part]
    else:
        for chosen in rows.split(size):
            yield chosen, matrix[chosen]


def unit(x: Tensor, norm: Tensor | None = None) -> Tensor:
    """x / ||x||, and 0 for 0."""
    norm = torch.linalg.vector_norm(x) if norm is None else norm
    return x / norm.clamp_min(torch.finfo(x.dtype).tiny)
