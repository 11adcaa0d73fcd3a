"""functional.spectral against torch.linalg.svd in float64."""

import pytest
import torch

from carlt.functional import batch_confusion, spectral
from carlt.functional.spectral import leading_triplet

SIZES = [10, 100, 300]  # squaring, squaring, Lanczos


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def with_values(values, size):
    """A matrix with the given leading singular values, in random directions."""
    q, r = torch.linalg.qr(randn(size, size))[0], torch.linalg.qr(randn(size, size + 1))[0][:, :size]
    rest = torch.linspace(0.5 * min(values), 0, size - len(values), dtype=torch.float64)
    return q @ torch.diag(torch.cat([torch.tensor(values, dtype=torch.float64), rest])) @ r


def trained(size):
    """The running confusion of a linear classifier that learns long-tailed Gaussian classes, after 40 steps."""
    torch.manual_seed(0)
    prior = torch.arange(1, size + 1, dtype=torch.float64) ** -1.0
    centres = 2 * randn(size, 16)
    weight = torch.zeros(16, size, dtype=torch.float64, requires_grad=True)
    confusion = torch.zeros(size, size, dtype=torch.float64)
    for _ in range(40):
        targets = torch.multinomial(prior, 128, replacement=True)
        logits = (centres[targets] + torch.randn(128, 16)) @ weight
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, targets), weight)
        weight.data -= 0.5 * gradient
        confusion = 0.5 * confusion + 0.5 * batch_confusion(logits.detach(), targets)[0]
    return confusion


MATRICES = {
    "random": lambda n: randn(n, n),
    "random and positive": lambda n: randn(n, n).abs(),
    "trained": trained,
    "two close values": lambda n: with_values([1.0, 0.99], n),
    "two closer values": lambda n: with_values([1.0, 0.999], n),
    "rank one": lambda n: torch.outer(randn(n), randn(n + 1)[:n]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MATRICES)
def test_value_and_gradient_are_those_of_the_svd(name, size, dtype):
    matrix = MATRICES[name](size).to(dtype)
    weight = (0.5 + torch.rand(size, generator=torch.Generator().manual_seed(0))).to(dtype)
    if "close" in name:
        weight.fill_(1)  # or they would not be close
    start = torch.linspace(0, 1, size, dtype=dtype)
    sigma, u, v, error = leading_triplet(matrix, weight, start)
    assert v.dot(start) > 0
    left, values, right = torch.linalg.svd(weight.double()[:, None] * matrix.double())
    exact = torch.outer(left[:, 0], right[0])
    assert abs(sigma / values[0] - 1) <= 1e-5
    assert torch.linalg.vector_norm(torch.outer(u, v) - exact) <= 1e-3
    assert error <= 1e-3
    assert sigma.dtype == u.dtype == v.dtype == dtype
    if dtype == torch.float64:
        assert abs(sigma / values[0] - 1) <= 1e-12
        assert torch.linalg.vector_norm(torch.outer(u, v) - exact) <= 1e-8


@pytest.mark.parametrize("name", ["random and positive", "trained", "two close values", "rank one"])
@pytest.mark.parametrize(("size", "most"), [(100, 1024), (300, 1024), (300, 0)])
def test_without_a_look_at_the_numbers(name, size, most, monkeypatch):
    """Squaring a fixed number of times, and Lanczos with a fixed number of steps."""
    monkeypatch.setattr(spectral, "FIXED", most)
    matrix, ones = MATRICES[name](size).float(), torch.ones(size)
    sigma, u, v, error = leading_triplet(matrix, ones, ones, wait=False)
    left, values, right = torch.linalg.svd(matrix.double())
    assert abs(sigma / values[0] - 1) <= 1e-5
    assert torch.linalg.vector_norm(torch.outer(u, v) - torch.outer(left[:, 0], right[0])) <= 1e-3
    assert error <= 1e-3
    assert isinstance(error, torch.Tensor) == bool(most)


@pytest.mark.parametrize("size", SIZES)
def test_repeated_leading_value_has_some_valid_pair(size):
    matrix = with_values([1.0, 1.0], size)
    sigma, u, v, _ = leading_triplet(matrix, torch.ones(size, dtype=torch.float64), randn(size))
    torch.testing.assert_close(sigma, torch.ones_like(sigma))
    torch.testing.assert_close(matrix @ v, u)
    torch.testing.assert_close(matrix.T @ u, v)


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("size", [10, 60, 100, 300, 1000])
def test_of_many_equal_values_it_has_one_and_unit_vectors(size, wait):
    """Confident mistakes, each of another class for another class."""
    matrix = 0.3 * torch.eye(size).roll(1, 0)
    sigma, u, v, _ = leading_triplet(matrix, torch.ones(size), torch.linspace(1, 2, size), wait=wait)
    torch.testing.assert_close(sigma, torch.tensor(0.3), rtol=1e-2, atol=0)
    torch.testing.assert_close(torch.stack([u, v]).norm(dim=1), torch.ones(2))
    torch.testing.assert_close(u @ matrix @ v, sigma)


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6])
def test_a_matrix_of_any_size_is_found_without_a_look(scale):
    matrix = scale * MATRICES["trained"](100).float()
    sigma, _, _, error = leading_triplet(matrix, torch.ones(100), torch.ones(100), wait=False)
    assert sigma == pytest.approx(float(torch.linalg.matrix_norm(matrix.double(), 2)), rel=1e-4)
    assert error <= 1e-3
    assert leading_triplet(0 * matrix, torch.ones(100), torch.ones(100), wait=False).error == 0


@pytest.mark.parametrize("size", SIZES)
def test_zero_matrix_has_value_and_gradient_zero(size):
    sigma, u, v, _ = leading_triplet(torch.zeros(size, size), torch.ones(size), torch.ones(size))
    assert sigma == 0
    assert not u.any()
    assert v.isfinite().all()


@pytest.mark.parametrize("shape", [(3, 200), (200, 3), (1, 2), (400, 150)])
def test_shapes(shape):
    matrix = randn(*shape)
    sigma, u, v, _ = leading_triplet(matrix, torch.ones(shape[0], dtype=torch.float64), randn(shape[1]))
    torch.testing.assert_close(sigma, torch.linalg.matrix_norm(matrix, 2))
    torch.testing.assert_close(matrix @ v, sigma * u)


def test_rows_in_small_pieces_are_all_rows(monkeypatch):
    matrix, weight, start = randn(500, 300).abs(), randn(500).abs(), torch.ones(300, dtype=torch.float64)
    whole = leading_triplet(matrix, weight, start)
    monkeypatch.setitem(spectral.CHUNK_BYTES, "cpu", 7 * 300 * 8)
    pieces = leading_triplet(matrix, weight, start)
    every = leading_triplet(matrix, weight, start, rows=torch.arange(500))
    for other in (pieces, every):
        torch.testing.assert_close(other[:3], whole[:3])


@pytest.mark.parametrize("most", [64, 2])  # with so few steps Lanczos does not converge
def test_chosen_rows_are_a_matrix_with_the_others_zero(most, monkeypatch):
    monkeypatch.setattr(spectral, "MAX_STEPS", most)
    matrix, weight = randn(300, 300), torch.ones(300, dtype=torch.float64)
    rows = torch.arange(0, 300, 3)
    sigma, u, _, error = leading_triplet(matrix, weight, torch.ones(300, dtype=torch.float64), rows)
    torch.testing.assert_close(sigma, torch.linalg.matrix_norm(matrix[rows], 2))
    assert error <= 1e-3
    assert not u[1::3].any()


def test_active_rows_keep_the_value():
    matrix = randn(400, 50).abs() * 0.7 ** torch.arange(400, dtype=torch.float64)[:, None]
    norms = torch.linalg.vector_norm(matrix, dim=1)
    exact = torch.linalg.matrix_norm(matrix, 2)
    for floor in (0 * exact, 0.5 * exact):
        rows = spectral.active_rows(norms, floor)
        assert len(rows) < 30
        assert torch.equal(rows, rows.sort().values)
        assert 0 <= 1 - torch.linalg.matrix_norm(matrix[rows], 2) / exact <= 0.5e-5
    assert len(spectral.active_rows(torch.zeros(400), torch.zeros(()))) == 0
    assert spectral.active_rows(torch.ones(400), torch.zeros(())) is None  # all of them


def test_active_rows_are_the_same_in_every_unit():
    norms = 0.7 ** torch.arange(60, dtype=torch.float64)
    rows = spectral.active_rows(norms, 1.2 * norms[0])
    assert 0 < len(rows) < 30
    for scale in (1e-3, 1e3):
        assert torch.equal(spectral.active_rows(scale * norms, 1.2 * scale * norms[0]), rows)


@pytest.mark.parametrize("value", [0.99, 0.999, 0.9995])
def test_the_error_of_squaring_is_a_bound(value):
    matrix = torch.diag(torch.tensor([1.0, value], dtype=torch.float64))
    v, error = spectral.squaring(matrix, torch.ones(2, dtype=torch.float64), None)
    assert v[1] / torch.linalg.vector_norm(v) <= error


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_an_exact_decomposition_points_where_its_start_does(shape):
    matrix, ones = randn(*shape), torch.ones(shape[0], dtype=torch.float64)
    start = torch.linspace(-1, 2, shape[1], dtype=torch.float64)
    v = spectral.exact(matrix, ones, start)
    assert v.dot(start) > 0
    torch.testing.assert_close(spectral.exact(matrix, ones, -start), -v)


@pytest.mark.parametrize("size", [20, 300])
def test_autocast_changes_nothing(size):
    matrix, weight, start = torch.rand(size, size), torch.rand(size), torch.ones(size)
    expected = spectral.leading_triplet(matrix, weight, start)
    with torch.autocast("cpu", torch.bfloat16):
        found = spectral.leading_triplet(matrix, weight, start)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found[:3], expected[:3], strict=True))
