"""What the examples train on: scikit-learn's digits with a long tail, as plain tensors, and a small network."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

TEST_IMAGES = 50
"""Of each class."""


def long_tailed_digits(imbalance_factor: float = 40.0) -> tuple[TensorDataset, TensorDataset, list[int]]:
    """Training set, test set, and the training images of each class: n_c = n_0 * imbalance_factor^(-c / 9).

    Images are float32 (N, 1, 8, 8) in [0, 1].
    """
    pixels, digits = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16
    labels = torch.from_numpy(digits).long()
    of_class = [(labels == digit).nonzero().flatten() for digit in range(10)]
    spare = min(map(len, of_class)) - TEST_IMAGES
    class_counts = [round(spare * imbalance_factor ** (-digit / 9)) for digit in range(10)]
    test = torch.cat([indices[:TEST_IMAGES] for indices in of_class])
    train = torch.cat([indices[TEST_IMAGES:][:count] for indices, count in zip(of_class, class_counts, strict=True)])
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test]), class_counts


def small_network() -> nn.Module:
    """Images (N, 1, 8, 8) to logits (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


def class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The accuracy of each class, (C,)."""
    right = (logits.argmax(1) == labels).float()
    return torch.stack([right[labels == label].mean() for label in range(logits.shape[1])])
