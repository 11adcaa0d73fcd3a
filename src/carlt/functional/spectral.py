"""The leading singular triplet of a matrix, without an SVD."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

SMALL = 128  # up to this many rows and columns, repeated squaring of the Gram matrix is the fastest method
FIXED = 1024  # the same limit with wait=False: squaring needs no number on the host
LARGE = 2048  # up to this many rows, using all of them is faster than selecting the active ones
FALLBACK = 1024  # up to this many rows or columns, an exact decomposition where Lanczos does not converge
ROUNDS = 3  # at most, of three squarings each
MAX_STEPS = 64  # of Lanczos with wait=True
STEPS_UNSEEN = 24  # of Lanczos with wait=False, a fixed number: the host waits for the GPU once, at the end
CHUNK_BYTES = {"cpu": 1 << 20, "cuda": 32 << 20}  # rows at a time: few enough to stay in the cache for a second use


class Triplet(NamedTuple):
    """sigma (), u (R,), v (C,) with M v = sigma u, and ``error``, about the sine of v's angle to the exact one.

    v points the same way as the start of its search. ``error`` is a tensor () where nothing was waited for.
    """

    sigma: Tensor
    u: Tensor
    v: Tensor
    error: float | Tensor


@torch.no_grad()
def leading_triplet(
    matrix: Tensor,
    row_weight: Tensor,
    start: Tensor,
    rows: Tensor | None = None,
    tol: float | None = None,
    wait: bool = True,
) -> Triplet:
    """Largest singular value of M = diag(row_weight) matrix and its vectors, so that d sigma = u^T dM v.

    Small matrices by squaring, others by Lanczos; where that does not converge within its cap and the matrix is not
    large, by an exact decomposition. ``matrix`` is copied only where it is small.

    Args:
        matrix: (R, C), float32 or float64.
        row_weight: (R,).
        start: a guess of v, (C,); any vector that is not orthogonal to it.
        rows: indices of the rows to use, int64; the others count as zero; None for all.
        tol: bound on the sine of v's angle to the exact one, and so on the relative error of u v^T; sigma's is of
            second order in it. Default eps^(2/3): 2e-5 in float32, 4e-11 in float64.
        wait: True iterates until the error, which is read on the host, is at most ``tol``. False takes a fixed number
            of iterations, for a GPU, and ``error`` may exceed ``tol``: up to ``FIXED`` rows and columns the host reads
            nothing, so that CUDA graphs and ``torch.compile`` work; above, it reads once.

    Returns:
        The triplet, u in all R rows; for an all-zero matrix sigma = 0 and u = 0.
    """
    with torch.autocast(matrix.device.type, enabled=False):
        return _leading_triplet(matrix, row_weight, start, rows, tol, wait)


def _leading_triplet(
    matrix: Tensor, row_weight: Tensor, start: Tensor, rows: Tensor | None, tol: float | None, wait: bool
) -> Triplet:
    tol = torch.finfo(matrix.dtype).eps ** (2 / 3) if tol is None else tol
    error: float | Tensor
    if rows is None and max(matrix.shape) <= (SMALL if wait else FIXED):
        m = row_weight[:, None] * matrix
        v, error = squaring(m, start, tol if wait else None)
        if wait and error > tol:
            v, error = exact(matrix, row_weight, start), 0.0
        v = unit(v)
        u = m.mv(v)
    else:
        most = min(MAX_STEPS if wait else STEPS_UNSEEN, *matrix.shape)
        v, error = lanczos(gram_product(matrix, row_weight, rows), start, most, tol, wait)
        if wait and error > tol and min(matrix.shape) <= FALLBACK:
            chosen = slice(None) if rows is None else rows
            v, error = exact(matrix[chosen], row_weight[chosen], start), 0.0
        u = torch.zeros_like(row_weight)
        for part, piece in pieces(matrix, rows):
            u[part] = row_weight[part] * piece.mv(v)
    sigma = torch.linalg.vector_norm(u)
    return Triplet(sigma, unit(u, sigma), v, error)


def squaring(m: Tensor, start: Tensor, tol: float | None) -> tuple[Tensor, float | Tensor]:
    """v of a small M (R, C), not of unit length, by powers of M^T M, which tend to rank one; and its error.

    After three squarings of P with eigenvalues p_i that add up to 1, trace(P^8) = sum p_i^8 <= p_1^7. So the other
    eigenvalues were at most r p_1, r = (1 - p_1) / p_1, and are now at most r^8 of the first; each product with P^8
    takes as much off v's error.

    Args:
        start: (C,).
        tol: of the error, read after each round; None to read nothing and do ``ROUNDS`` rounds.
    """
    tiny = torch.finfo(m.dtype).tiny
    power = m.T @ m
    if tol is None:
        power = power / power.trace().clamp_min(tiny)
    power = power @ power  # of a norm below 1e-9 nothing is left in float32, unless it was divided
    error: float | Tensor = torch.inf
    for done in range(ROUNDS + 1):
        trace = power.trace()
        size = trace.clamp_min(tiny) if tol is None else max(float(trace), tiny)
        if done == ROUNDS or (done and tol is not None):
            error = (size ** (-1 / 7) - 1) ** 16
            if tol is None or done == ROUNDS or error <= tol:
                break
        power = power / size
        for _ in range(3):
            power = power @ power
    if tol is None:  # of many equal eigenvalues little is left
        power = power / size
        error = torch.where(trace > 0, error, 0)  # of M = 0 any v is right
    v = start
    for _ in range(3):
        v = power.mv(v)
    return v, error


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
    v, _ = lanczos(gram, start, min(2 * MAX_STEPS, len(rows), len(columns)), tol=1e-5)  # sigma's is its square
    return torch.linalg.vector_norm(product(v))


@torch.no_grad()
def perron_vector(matrix: Tensor, start: Tensor, tol: float | None = None, most: int = 1000) -> tuple[Tensor, Tensor]:
    """Spectral radius rho and eigenvector x of a matrix without negative entries: M x = rho x, ||x|| = 1, x >= 0.

    By power iteration on M + s I, which has the same x and, unlike M, no other eigenvalue of the same size.

    Args:
        matrix: M, at least 0, (C, C).
        start: a guess of x, positive, of length 1, (C,).
        tol: of the residual ||M x - rho x|| / rho. Default eps^(2/3).
        most: products at most. After them the last estimate is returned, though it misses ``tol``.

    Returns:
        rho, a scalar, and x (C,); ``start`` for a matrix of zeros.
    """
    tol = torch.finfo(matrix.dtype).eps ** (2 / 3) if tol is None else tol
    size = matrix.max().clamp_min(torch.finfo(matrix.dtype).tiny)
    matrix = matrix / size  # squares of small numbers would be 0
    shift, x = matrix.sum(1).mean(), start
    for _ in range(most):
        product = matrix.mv(x)
        radius = product.dot(x)
        if torch.linalg.vector_norm(product - radius * x) <= tol * radius:
            break
        x = unit(product + shift * x)
    return size * radius, x


def gram_product(matrix: Tensor, row_weight: Tensor, rows: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The product of a vector (C,) with M^T M, M = diag(row_weight) matrix."""
    squared = row_weight.square()

    def product(v: Tensor) -> Tensor:
        result = torch.zeros_like(v)
        for part, piece in pieces(matrix, rows):
            result.addmv_(piece.T, squared[part] * piece.mv(v))
        return result

    return product


def lanczos(
    gram: Callable[[Tensor], Tensor], start: Tensor, most: int, tol: float, wait: bool = True
) -> tuple[Tensor, float]:
    """v by Lanczos on M^T M with full reorthogonalisation. Returns v (C,) and its error, residual / gap.

    Golub-Kahan's bidiagonalisation spans the same space; on M^T M each row is read once per step, not twice. The
    smallest singular values suffer from the square, the largest does not.

    Args:
        gram: the product of a vector (C,) with M^T M.
        start: (C,).
        most: the most steps, at most the rank of M if that is known.
        tol: of the error.
        wait: False to look at the numbers once, after ``most`` steps.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., sections 10.1 and 10.4; the error bound: Parlett, The
    Symmetric Eigenvalue Problem, theorem 11.7.1.
    """
    tiny, eps = torch.finfo(start.dtype).tiny, torch.finfo(start.dtype).eps
    first, every = (4, 1) if start.device.type == "cpu" else (8, 4)  # each look waits for the GPU
    basis = start.new_empty(most, len(start))
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    q, size = unit(start), start.new_zeros(())
    for step in range(1, len(basis) + 1):
        basis[step - 1] = q
        known = basis[:step]
        q = gram(q)
        inner = known.mv(q)
        q = torch.addmv(q, known.T, inner, alpha=-1)
        q = torch.addmv(q, known.T, known.mv(q), alpha=-1)  # once leaves q not quite orthogonal
        norm = torch.linalg.vector_norm(q)
        size = torch.maximum(size, inner[-1] + norm)
        norm = norm * (norm > 16 * eps * size)  # where the space is exhausted, q is rounding: 0 from there on
        q = q * norm.sign() / norm.clamp_min(tiny)
        diagonal.append(inner[-1])
        beside.append(norm)
        if step == len(basis) or (wait and step >= first and step % every == 0):
            vector, error = ritz(torch.stack(diagonal + beside).double().cpu(), eps)
            if error <= tol:
                break
    return unit(vector.to(start.device, start.dtype, non_blocking=True) @ known), error


def ritz(numbers: Tensor, eps: float) -> tuple[Tensor, float]:
    """Leading eigenvector (k,) of the tridiagonal matrix that Lanczos has made in k steps, and its error.

    Args:
        numbers: its diagonal, what is beside it, and the residual's norm, (2 k,), float64 on the CPU.
        eps: of the precision that they were computed in.
    """
    alpha, beta = numbers.chunk(2)
    values, vectors = torch.linalg.eigh(torch.diag(alpha) + torch.diag(beta[:-1], -1))  # reads the lower half
    residual = float(beta[-1] * vectors[-1, -1].abs())
    if residual <= 4 * eps * float(values[-1]):  # as exact as this precision gets
        residual = 0.0
    gap = float(values[-1] - values[-2]) if len(values) > 1 else torch.inf
    vector = vectors[:, -1]  # its first entry is the start's share: v points the same way
    error = residual / gap if gap > residual else float(residual > 0)
    return (vector if vector[0] >= 0 else -vector), error


def exact(matrix: Tensor, row_weight: Tensor, start: Tensor) -> Tensor:
    """v (C,) by eigendecomposition of the smaller Gram matrix in float64; it points the same way as ``start``."""
    m = row_weight.double()[:, None] * matrix.double()
    if len(m) < m.shape[1]:
        v = m.T.mv(torch.linalg.eigh(m @ m.T).eigenvectors[:, -1])
    else:
        v = torch.linalg.eigh(m.T @ m).eigenvectors[:, -1]
    v = unit(v).to(matrix)
    return v if v.dot(start) >= 0 else -v


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
            yield chosen, matrix.index_select(0, chosen)


def unit(x: Tensor, norm: Tensor | None = None) -> Tensor:
    """x / ||x||, and 0 for 0."""
    norm = torch.linalg.vector_norm(x) if norm is None else norm
    return x / norm.clamp_min(torch.finfo(x.dtype).tiny)
