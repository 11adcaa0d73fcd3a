"""Class offsets after training: balanced for numpy, right where the answer is known, and the only ones."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from carlt.errors import CarltError
from carlt.functional import (
    batch_confusion,
    class_margins,
    class_offsets,
    frequency_weights,
    logit_adjustment,
    offsets,
    perron_vector,
    spectral,
)


def long_tailed(num_classes: int = 6, largest: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that favour frequent classes, float64 (N, C), and labels."""
    draw = torch.Generator().manual_seed(seed)
    counts = [max(3, int(largest * 0.4**c)) for c in range(num_classes)]
    labels = torch.repeat_interleave(torch.arange(num_classes), torch.tensor(counts))
    logits = torch.randn(len(labels), num_classes, generator=draw, dtype=torch.float64)
    logits[torch.arange(len(labels)), labels] += 2
    return logits + logit_adjustment(counts), labels


def scale_of(logits: Tensor, labels: Tensor) -> float:
    """Of the search, by numpy: the mean over classes of what is left without the means of images and of classes."""
    z, y = logits.double().numpy(), labels.numpy()
    z = z - z.mean(1, keepdims=True)
    z = z - np.mean([z[y == c].mean(0) for c in set(y)], 0)
    return float(offsets.LOGIT_STD / np.sqrt(np.mean([(z[y == c] ** 2).mean() for c in set(y)])))


def confusion_of(logits: Tensor, labels: Tensor, offset: Tensor, class_margin: float) -> np.ndarray:
    """Lambda C(z + b) of logits in the scale of the search."""
    counts = torch.bincount(labels)
    moved = scale_of(logits, labels) * (logits.double() + offset.double())
    confusion, _ = batch_confusion(moved, labels, class_margins(counts, class_margin))
    return (frequency_weights(counts)[:, None] * confusion).numpy()


@pytest.mark.parametrize("class_margin", [0.0, 3.0])
def test_confusion_is_balanced_for_numpy(class_margin: float) -> None:
    logits, labels = long_tailed()
    found = class_offsets(logits, labels, class_margin=class_margin, tol=1e-8)
    m = confusion_of(logits, labels, found.offset, class_margin)
    u, sigma, v = np.linalg.svd(m)
    assert np.abs(u[:, 0]) == pytest.approx(np.abs(v[0]), abs=1e-6)
    assert found.spectral_radius == pytest.approx(max(np.abs(np.linalg.eigvals(m))), rel=1e-8)
    assert found.spectral_radius == pytest.approx(sigma[0], rel=1e-8)
    assert found.imbalance <= 1e-7
    assert found.converged
    assert found.offset.mean().item() == pytest.approx(0, abs=1e-6)
    assert found.offset.std() > 0.5


def test_a_step_is_half_the_logarithm_of_numpy_s_perron_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = long_tailed()
    found = []
    for most in (0, 1):
        monkeypatch.setattr(offsets, "MOST_STEPS", most)
        found.append(class_offsets(logits, labels, class_margin=0.0).offset)
    m = confusion_of(logits, labels, found[0], 0.0)
    r, left = (np.abs(vectors[:, values.real.argmax()]) for values, vectors in (np.linalg.eig(m), np.linalg.eig(m.T)))
    step = np.log(r / left) / 2
    moved = scale_of(logits, labels) * (found[1] - found[0]).numpy()
    assert moved == pytest.approx(step - step.mean(), rel=1e-6)


def test_two_classes_by_hand() -> None:
    """C = [[0, sigmoid(d - 20)], [sigmoid(-30 - d), 0]], d = b_1 - b_0, is balanced at d = -5."""
    logits, labels = torch.tensor([[20.0, 0.0], [0.0, 30.0]], dtype=torch.float64), torch.tensor([0, 1])
    found = class_offsets(logits, labels, class_margin=0.0, tol=1e-9)
    assert (found.offset[1] - found.offset[0]).item() == pytest.approx(-5, abs=1e-6)


def test_log_posteriors_lose_their_prior() -> None:
    """Classes that differ in frequency alone: z = log p(x | c) + log pi, so b = -log pi up to sampling noise."""
    draw = torch.Generator().manual_seed(0)
    counts = torch.tensor([6000, 3000, 1500, 750])
    labels = torch.repeat_interleave(torch.arange(4), counts)
    images = torch.randn(len(labels), 4, generator=draw) + 1.5 * torch.nn.functional.one_hot(labels)
    found = class_offsets(1.5 * images + logit_adjustment(counts), labels, class_margin=0.0, r0=1e6)
    expected = -logit_adjustment(counts)
    assert torch.allclose(found.offset.double(), expected - expected.mean(), atol=0.1)


def test_offsets_undo_any_offsets_and_scale_with_the_logits() -> None:
    """a z + d has the offsets a b - d: neither where the search starts matters nor the unit of the logits."""
    logits, labels = long_tailed()
    known = torch.tensor([3.0, -2.0, 0.5, 1.0, -4.0, 1.5], dtype=torch.float64)
    plain = class_offsets(logits, labels, tol=1e-9).offset
    for scale in (1.0, 1e-3, 1e3):
        moved = class_offsets(scale * logits + known, labels, tol=1e-9).offset
        assert torch.allclose(moved, scale * plain - known, rtol=1e-6, atol=1e-6)


def test_order_of_classes_images_and_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = long_tailed()
    whole = class_offsets(logits, labels, tol=1e-9).offset
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(class_offsets(logits[:, order], order.argsort()[labels], tol=1e-9).offset, whole[order])
    mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    monkeypatch.setitem(spectral.CHUNK_BYTES, "cpu", 60 * logits.element_size())
    assert torch.allclose(class_offsets(logits[mixed], labels[mixed], tol=1e-9).offset, whole)
    assert class_offsets(logits.float(), labels).offset == pytest.approx(whole, abs=1e-2)
    uneven = class_offsets(logits, labels, counts := torch.bincount(labels), tol=1e-9).offset
    assert torch.allclose(uneven, whole)
    assert not torch.allclose(class_offsets(logits, labels, counts.flip(0)).offset, whole, atol=0.1)
    assert torch.equal(
        class_offsets(logits.bfloat16(), labels).offset, class_offsets(logits.bfloat16().float(), labels).offset
    )


def test_margin_lifts_the_classes_with_few_images() -> None:
    """Of a network that is always right by 5 logits, only the margin tells rare from frequent classes."""
    counts = torch.tensor([400, 100, 25])
    labels = torch.repeat_interleave(torch.arange(3), counts)
    logits = 5.0 * torch.nn.functional.one_hot(labels).float()
    found = class_offsets(logits, labels, class_margin=8.0).offset
    assert found[2] > found[1] > found[0]
    flat = class_offsets(logits, labels, class_margin=0.0, r0=1e6).offset
    assert flat == pytest.approx(torch.zeros(3), abs=1e-2)


def test_margins_are_of_the_given_counts_whatever_the_sample() -> None:
    labels = torch.arange(3).repeat(20)
    logits = 5.0 * torch.nn.functional.one_hot(labels).float()
    found = class_offsets(logits, labels, [400, 100, 25], class_margin=8.0, r0=1e6).offset
    assert found[2] > found[1] > found[0]


def test_labels_may_be_of_any_integer_type() -> None:
    logits, labels = long_tailed()
    found = class_offsets(logits, labels.to(torch.uint8)).offset
    torch.testing.assert_close(found, class_offsets(logits, labels).offset)


def test_the_defaults_are_those_of_the_experiments() -> None:
    found = class_offsets(torch.eye(3), torch.arange(3))
    assert (found.class_margin, offsets.LOGIT_STD) == (12.0, 3.3)


@pytest.mark.parametrize("gap", [20.0, 300.0, 1e5])
def test_separated_classes_are_balanced_too(gap: float) -> None:
    labels = torch.arange(10).repeat(20)
    noise = 2 * torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    logits = gap * torch.nn.functional.one_hot(labels) + noise
    found = class_offsets(logits, labels, class_margin=0.0)
    assert found.converged
    u, _, v = np.linalg.svd(confusion_of(logits, labels, found.offset, 0.0))
    assert np.abs(u[:, 0]) == pytest.approx(np.abs(v[0]), abs=1e-2)


def test_logits_that_are_all_alike_have_no_offsets() -> None:
    found = class_offsets(torch.ones(6, 3), torch.tensor([0, 0, 0, 1, 1, 2]), class_margin=0.0, r0=1e6)
    assert found.offset == pytest.approx(torch.zeros(3), abs=1e-6)


def test_a_search_that_is_stopped_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = long_tailed()
    balances = []
    for most in (0, 1, 3):
        monkeypatch.setattr(offsets, "MOST_STEPS", most)
        found = class_offsets(logits, labels)
        assert not found.converged
        assert found.steps == most
        balances.append(found.imbalance)
    assert balances == sorted(balances, reverse=True)
    assert balances[-1] > 0.001


def test_balancing_raises_the_recall_of_lost_classes() -> None:
    logits, labels = long_tailed(seed=1)
    new, new_labels = long_tailed(seed=2)
    rare = new_labels >= 3
    before = (new.argmax(1) == new_labels)[rare].double().mean()
    after = ((new + class_offsets(logits, labels).offset).argmax(1) == new_labels)[rare].double().mean()
    assert after > before + 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 1, 3])}, r"labels are in \[0, 3\), not 0 to 3"),
        ({"labels": torch.tensor([0, -1, 2])}, r"labels are in \[0, 3\), not -1 to 2"),
        ({"labels": torch.eye(3)}, r"labels are classes, whole numbers"),
        ({"labels": torch.tensor([0, 1])}, r"targets: expected whole numbers \(3,\)"),
        ({"logits": torch.full((3, 3), math.nan)}, r"not finite"),
        ({"class_counts": [5, 5]}, r"logits of 3 classes do not fit class_counts of 2"),
        ({"labels": torch.tensor([0, 1, 1])}, r"class 2: 0"),
        ({"labels": torch.tensor([0, 1, 1]), "class_counts": [5, 5, 5]}, r"class 2 has no image among the 3 given"),
        ({"tol": math.nan}, r"tol=nan"),
        ({"tol": 0.0}, r"tol=0\.0: expected a number above 0"),
        ({"r0": math.inf}, r"r0 smooths"),
        ({"class_margin": -1.0}, r"class_margin=-1\.0: expected a number, at least 0"),
        ({"r0": -1.0}, r"r0 smooths"),
    ],
)
def test_mistakes(change: dict, message: str) -> None:
    given = {"logits": torch.eye(3), "labels": torch.tensor([0, 1, 2])} | change
    with pytest.raises(CarltError, match=message):
        class_offsets(given.pop("logits"), given.pop("labels"), given.pop("class_counts", None), **given)


def test_class_margins() -> None:
    assert class_margins([100, 25, 4], 10.0).tolist() == pytest.approx([2, 4, 10])
    assert class_margins([100, 25, 4], 0.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [2, 3, 50])
def test_perron_vector_against_eigendecomposition(size: int) -> None:
    m = torch.rand(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    m.fill_diagonal_(0)  # with two classes M has the eigenvalues rho and -rho
    radius, x = perron_vector(m, torch.full((size,), size**-0.5, dtype=torch.float64))
    values, vectors = np.linalg.eig(m.numpy())
    leading = values.real.argmax()
    assert radius.item() == pytest.approx(values[leading].real, rel=1e-9)
    assert x.numpy() == pytest.approx(np.abs(vectors[:, leading].real), abs=1e-8)


def test_perron_vector_of_zeros_is_the_start() -> None:
    start = torch.tensor([0.6, 0.8])
    radius, x = perron_vector(torch.zeros(2, 2), start)
    assert radius == 0
    assert torch.equal(x, start)
