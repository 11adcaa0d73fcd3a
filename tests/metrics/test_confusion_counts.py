import math

import pytest
import torch
from torch import Tensor

from carlt.errors import CarltError
from carlt.metrics import ConfusionCounts, Evaluation

C = 5


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(200, C, generator=generator)
    labels = torch.randint(0, C - 1, (200,), generator=generator)  # the last class is never seen
    return logits, labels


def evaluate(*batches: tuple[Tensor, Tensor]) -> Evaluation:
    counts = ConfusionCounts(C)
    for logits, labels in batches:
        counts.update(logits, labels)
    return counts.evaluation()


def test_counts_are_those_of_a_loop(batch: tuple[Tensor, Tensor]) -> None:
    matrix = [[0] * C for _ in range(C)]
    for row, label in zip(batch[0].tolist(), batch[1].tolist(), strict=True):
        matrix[label][row.index(max(row))] += 1
    found = evaluate(batch)
    cells = zip(found.true.tolist(), found.predicted.tolist(), found.count.tolist(), strict=True)
    assert {(i, j): n for i, j, n in cells} == {(i, j): n for i in range(C) for j, n in enumerate(matrix[i]) if n}
    assert found.correct.tolist() == [matrix[c][c] for c in range(C)]
    assert found.total.tolist() == [sum(row) for row in matrix]


def test_margin_cells_are_those_of_a_loop(batch: tuple[Tensor, Tensor]) -> None:
    cells: dict[tuple[int, int], int] = {}
    for row, label in zip(batch[0].tolist(), batch[1].tolist(), strict=True):
        score, rival = max((value, i) for i, value in enumerate(row) if i != label)
        if row[label] <= 0.1 + score:
            cells[label, rival] = cells.get((label, rival), 0) + 1
    found = evaluate((batch[0].double(), batch[1]))
    triples = zip(found.margin_true.tolist(), found.margin_rival.tolist(), found.margin_count.tolist(), strict=True)
    assert {(i, j): n for i, j, n in triples} == cells
    wrong = int((found.total - found.correct).sum())
    assert wrong < sum(cells.values())  # and some that are right, but not by the margin
    summary = found.margin_summary(torch.tensor([50, 40, 30, 20, 1]))
    assert summary["worst_margin_error"] == max(
        sum(n for (i, _), n in cells.items() if i == c) / int(found.total[c]) for c in range(C - 1)
    )


def test_calibration_is_that_of_a_loop(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(logits.softmax(1), labels, strict=True):
        confidence, predicted = row.max(0)
        bins.setdefault(math.ceil(confidence * 15), []).append((confidence.item(), bool(predicted == label)))
    gaps = [abs(sum(right for _, right in bin) - sum(confidence for confidence, _ in bin)) for bin in bins.values()]
    ece = evaluate(batch).summary(torch.full((C,), 50))["ece"]
    assert ece == pytest.approx(sum(gaps) / len(labels))


def test_calibration_by_hand() -> None:
    # Four images at confidence 0.75 with two right ones: the gap is 0.25.
    logits = torch.log(torch.tensor([[0.75, 0.25]])).repeat(4, 1)
    counts = ConfusionCounts(2)
    counts.update(logits, torch.tensor([0, 0, 1, 1]))
    evaluation = counts.evaluation()
    summary, bins = evaluation.summary(torch.tensor([5, 5])), evaluation.calibration()
    assert summary["ece"] == pytest.approx(0.25)
    assert summary["macro_f1"] == pytest.approx((2 * 2 / (2 + 4) + 0) / 2)  # all four are taken for the first class
    place = bins["images"].index(4)
    assert (bins["confidence"][place], bins["accuracy"][place]) == (pytest.approx(0.75), 0.5)


def test_a_confidence_at_an_edge_is_in_the_bin_below() -> None:
    counts = ConfusionCounts(3)
    counts.update(torch.zeros(1, 3), torch.tensor([0]))
    assert counts.evaluation().calibration()["images"].index(1) == 4  # (4 / 15, 5 / 15]


def test_an_unseen_class_counts_nowhere(batch: tuple[Tensor, Tensor]) -> None:
    # Only the unseen class is few-shot.
    summary = evaluate(batch).summary(torch.tensor([50, 50, 50, 50, 1]))
    assert math.isnan(summary["few"])
    assert summary["balanced_accuracy"] == pytest.approx(summary["medium"])
    assert summary["worst_class"] > 0


@pytest.mark.parametrize("size", [1, 7, 64])
def test_how_a_split_is_cut_into_batches_does_not_matter(size: int, batch: tuple[Tensor, Tensor]) -> None:
    whole = evaluate(batch).summary(torch.full((C,), 50))
    cut = evaluate(*zip(batch[0].split(size), batch[1].split(size), strict=True)).summary(torch.full((C,), 50))
    assert str(cut) == str(whole)  # to the last bit; as text because NaN is not itself
    parts = evaluate(*zip(batch[0].split(size), batch[1].split(size), strict=True))
    counts = torch.full((C,), 50)
    assert parts.margin_summary(counts) == evaluate(batch).margin_summary(counts)


def test_reset_forgets(batch: tuple[Tensor, Tensor]) -> None:
    counts = ConfusionCounts(C)
    counts.update(*batch)
    counts.reset()
    counts.update(batch[0][:3], batch[1][:3])
    assert counts.evaluation().total.sum() == 3


def test_half_precision_logits_are_counted_alike(batch: tuple[Tensor, Tensor]) -> None:
    logits = batch[0].bfloat16()
    half, single = evaluate((logits, batch[1])), evaluate((logits.float(), batch[1]))
    assert torch.equal(half.count, single.count)
    assert torch.equal(half.bins, single.bins)
    assert torch.equal(half.margin_count, single.margin_count)


def test_the_margin_of_half_precision_logits_is_not_rounded() -> None:
    counts = ConfusionCounts(2)
    counts.update(torch.tensor([[8.125, 8.0]]).bfloat16(), torch.tensor([0]))  # where 8 + 0.1 is 8.125
    assert counts.evaluation().margin_count.tolist() == []


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_no_answers(batch: tuple[Tensor, Tensor], wrong: float) -> None:
    logits, labels = batch
    logits[7] = wrong
    with pytest.raises(CarltError, match=r"not finite: training has diverged .*trainer\.precision="):
        evaluate((logits, labels))
