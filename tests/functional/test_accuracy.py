import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carlt.functional.accuracy import (
    class_accuracy,
    class_groups,
    expected_calibration_error,
    mean_of_worst,
    summarise,
)


def test_group_limits_are_those_of_oltr() -> None:
    groups = class_groups(torch.tensor([101, 100, 20, 19]))
    assert {name: mask.nonzero().flatten().tolist() for name, mask in groups.items()} == {
        "many": [0], "medium": [1, 2], "few": [3],
    }  # fmt: skip


def test_an_unseen_class_is_nan_and_not_zero() -> None:
    accuracy = class_accuracy(torch.tensor([0, 3, 0]), torch.tensor([4, 4, 0]))
    assert accuracy[:2].tolist() == [0.0, 0.75]
    assert accuracy[2].isnan()


def test_mean_of_worst_takes_at_least_one_seen_class() -> None:
    accuracy = torch.tensor([0.9, torch.nan, 0.1, 0.3])
    assert mean_of_worst(accuracy, 0.1) == pytest.approx(0.1)
    assert mean_of_worst(accuracy, 0.67) == pytest.approx(0.2)
    assert mean_of_worst(torch.tensor([torch.nan]), 0.1).isnan()


def test_the_worst_tenth_is_rounded_to_the_nearest_number_of_classes() -> None:
    accuracy = torch.arange(16) / 16
    assert mean_of_worst(accuracy, 0.1) == pytest.approx(1 / 32)  # 1.6 classes are two


def test_the_worst_tenth_of_a_summary() -> None:
    correct, ones = torch.arange(30), torch.ones(30, dtype=torch.int64)
    assert summarise(correct, 30 * ones, correct, ones)["worst_10pct"] == pytest.approx((0 + 1 + 2) / 90)


def test_calibration_error_by_hand() -> None:
    # 4 images at confidence 0.9 of which 3 are right, 1 image at 0.5 that is right: (|3 - 3.6| + |1 - 0.5|) / 5.
    error = expected_calibration_error(torch.tensor([4.0, 1.0]), torch.tensor([3.6, 0.5]), torch.tensor([3.0, 1.0]))
    assert error == pytest.approx(1.1 / 5)


def test_summary_by_hand() -> None:
    # Class 3 has no test image, but one image of class 2 is taken for it.
    correct, total = torch.tensor([8, 2, 0, 0]), torch.tensor([10, 4, 2, 0])
    predicted, train_counts = torch.tensor([11, 4, 0, 1]), torch.tensor([500, 50, 5, 1])
    summary = summarise(correct, total, predicted, train_counts)
    assert summary == pytest.approx(
        {
            "accuracy": 10 / 16,
            "balanced_accuracy": (0.8 + 0.5 + 0.0) / 3,
            "many": 0.8,
            "medium": 0.5,
            "few": 0.0,  # the unseen class is few-shot too, and not counted
            "worst_class": 0.0,
            "worst_10pct": 0.0,
            "classes_at_zero": 1,
            "macro_f1": (16 / 21 + 4 / 8 + 0) / 3,
            "geometric_mean": 0.0,
            "harmonic_mean": 0.0,
        }
    )


def test_means_of_positive_accuracies() -> None:
    summary = summarise(*torch.tensor([[1, 2], [4, 4], [1, 2], [200, 200]]))
    assert summary["geometric_mean"] == pytest.approx(math.sqrt(0.25 * 0.5))
    assert summary["harmonic_mean"] == pytest.approx(2 / (1 / 0.25 + 1 / 0.5))


def test_an_empty_group_is_nan() -> None:
    summary = summarise(*torch.tensor([[1, 2], [4, 4], [3, 5], [200, 200]]))
    assert math.isnan(summary["few"])
    assert math.isnan(summary["medium"])


def test_a_split_without_images_has_no_accuracy_at_all() -> None:
    nothing = torch.zeros(3, dtype=torch.int64)
    summary = summarise(nothing, nothing, nothing, torch.tensor([5, 5, 5]))
    assert summary.pop("classes_at_zero") == 0
    assert all(math.isnan(value) for value in summary.values())


@given(st.lists(st.lists(st.integers(0, 300), min_size=4, max_size=4), min_size=2, max_size=8))
def test_numbering_the_classes_otherwise_changes_no_summary(classes: list[list[int]]) -> None:
    def summary(rows: list[list[int]]) -> dict[str, float]:
        right, missed, mistaken, train_counts = torch.tensor(rows).T
        return summarise(right, right + missed, right + mistaken, train_counts)

    assert summary(classes[::-1]) == pytest.approx(summary(classes), nan_ok=True)
