"""The sheet shows views, patches and mixed images with their soft labels."""

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torchvision.transforms import v2

from carlt.aug import Remix
from carlt.data import DigitsLT
from carlt.training.augmentation_grid import partners

SHOWN = ("data=digits_lt", "show=augmentations")


@pytest.fixture
def drawn(tmp_path, command, monkeypatch):
    """``drawn(*overrides)``: runs the command and returns the figure that it saved."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: figures.append(self) or save(self, *args, **kwargs)
    )
    monkeypatch.chdir(tmp_path)

    def drawn(*overrides):
        _, said, _ = command("prepare", *SHOWN, *overrides)
        path = Path(said.removeprefix("drawn in ").strip())
        assert path.stat().st_size > 10_000
        return figures[-1]

    return drawn


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_a_column_for_everything_that_training_sees(drawn):
    figure = drawn("aug=concutmix", "loss=bcl")
    assert titles(figure) == [
        "original", "Resize", "contrast 1\nSimCLR", "contrast 2\nSimCLR", "partner", "mixed\nPaste",
    ]  # fmt: skip
    captions = [axes.get_xlabel() for axes in figure.axes[5::6]]
    for caption in captions:
        assert sum(float(line.split()[0]) for line in caption.splitlines()) == pytest.approx(1, abs=0.02)
        assert "digit" in caption


def test_without_mixing_only_views(drawn):
    assert titles(drawn("aug=standard")) == ["original", "Resize"]
    assert titles(drawn("aug=randaugment")) == ["original", "Resize\nRandAugment"]


def test_mixup_shows_what_it_mixed(drawn):
    figure = drawn("aug=mixup")
    assert titles(figure) == ["original", "Resize", "partner", "mixed\nMixUp"]
    original, view, partner, mixed = (torch.as_tensor(axes.images[0].get_array()).float() for axes in figure.axes[4:8])
    assert torch.equal(original, view)  # digits are not flipped or resized
    share = float(figure.axes[7].get_xlabel().split()[0])
    both = {share, 1 - share}
    assert min(((s * view + (1 - s) * partner) - mixed).abs().max() for s in both) < 2
    own, other = figure.axes[4].get_xlabel(), figure.axes[6].get_xlabel()
    assert {own, other} == {line.split(" ", 1)[1] for line in figure.axes[7].get_xlabel().splitlines()}


@pytest.mark.parametrize("mix", [v2.MixUp(num_classes=3), v2.CutMix(num_classes=3), Remix(torch.tensor([9, 3, 1]))])
def test_partners_are_those_that_were_mixed_in(mix):
    images = torch.rand(6, 1, 16, 16)
    found = partners(mix, 6, seed=3)
    torch.manual_seed(3)
    mixed, _ = mix(images, torch.zeros(6, dtype=torch.int64))
    for image, k, result in zip(images, found, mixed, strict=True):
        low, high = torch.minimum(image, images[k]), torch.maximum(image, images[k])
        assert ((low - 1e-6 <= result) & (result <= high + 1e-6)).all()
    assert any(k != i for i, k in enumerate(found))


def test_patches_that_never_come(command):
    code, _, errors = command("prepare", *SHOWN, "aug=cmo", "aug.paste.probability=0")
    assert code == 2
    assert "aug.paste mixed none of 64 batches" in errors


@pytest.mark.slow
def test_no_sheet_is_written_over_another(drawn, tmp_path):
    for words in (["aug=mixup"], ["aug=cutmix"], ["aug=cutmix", "aug.mix.alpha=0.1"], ["aug=mixup"]):
        drawn(*words)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "digits_lt_cutmix_augmentations.png", "digits_lt_cutmix_augmentations_2.png",
        "digits_lt_mixup_augmentations.png",
    ]  # fmt: skip


def test_class_names_of_any_language(drawn, monkeypatch):
    monkeypatch.setattr(DigitsLT, "class_names", [f"数字{digit}" for digit in range(10)])
    drawn("aug=mixup")


def test_the_mixed_column_is_named_by_what_mixed(drawn):
    assert titles(drawn("aug=[mixup,cmo]", "trainer.max_epochs=20"))[-1] == "mixed\nPaste"


def test_epochs_that_leave_no_patch_are_named(command):
    code, _, errors = command("prepare", *SHOWN, "aug=cmo", "trainer.max_epochs=6")
    assert code == 2
    assert "do aug.paste.first and aug.paste.last leave no epoch?" in errors
