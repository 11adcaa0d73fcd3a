"""Losses from the command line: options that come from the base class, soft labels, half precision."""

from pathlib import Path

import pytest

from carlt.errors import CarltError
from carlt.runs import paths
from carlt.training.callbacks import read_rows

FOCAL = "loss=focal loss.gamma=1.0 loss.effective_number_beta=0.9999 loss.drw_start=0.8 reg=none aug=mixup"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(FOCAL, marks=pytest.mark.slow),
        pytest.param("loss=seesaw aug=cutmix reg=car trainer.max_epochs=8", marks=pytest.mark.slow),
        "loss=lade reg=none aug=mixup trainer.precision=bf16-mixed model.width=8",
        pytest.param("loss=label_aware_smoothing reg=none sampler=deferred", marks=pytest.mark.slow),
        "loss=ce reg=[car,confidence_penalty] reg.confidence_penalty.weight=0.01",
    ],
)
def test_it_trains(run, line: str, tmp_path: Path) -> None:
    run(tmp_path, *line.split())
    first, *_, last = (row["train/loss"] for row in read_rows(tmp_path / paths.METRICS))
    assert last < first


def test_an_option_of_another_loss_is_refused_with_those_it_has(run, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=r"loss\.tau.*drw_start, effective_number_beta"):
        run(tmp_path, "loss=balanced_softmax", "loss.tau=2.0")
    with pytest.raises(CarltError, match=r"effective_number_beta=2\.0: expected a finite number in"):
        run(tmp_path, "loss=ce", "loss.effective_number_beta=2.0")


def test_deferred_weights_set_in_at_their_epoch(run, tmp_path: Path) -> None:
    rows = []
    for name, options in (("plain", ()), ("deferred", ("loss.effective_number_beta=1.0", "loss.drw_start=0.6"))):
        run(tmp_path / name, "reg=none", "loss=ce", *options)
        rows.append([row["train/loss"] for row in read_rows(tmp_path / name / paths.METRICS)])
    same = [plain == deferred for plain, deferred in zip(*rows, strict=True)]
    assert same == [True, True, False]  # 0/3 and 1/3 are done before the first two
