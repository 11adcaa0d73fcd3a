"""The sheet shows views, patches and mixed images with their soft labels."""

import sys

import pytest
import torch
from matplotlib.figure import Figure

from carlt.commands import prepare


@pytest.fixture
def drawn(tmp_path, monkeypatch, capsys):
    """``drawn(*overrides)``: runs the command and returns the figure that it saved."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: figures.append(self) or save(self, *args, **kwargs)
    )
    monkeypatch.chdir(tmp_path)

    def drawn(*overrides):
        monkeypatch.setattr(sys, "argv", ["prepare", "data=digits_lt", "show=augmentations", *overrides])
        prepare.main()
        assert (tmp_path / "digits_lt_augmentations.png").stat().st_size > 10_000
        assert "digits_lt_augmentations.png" in capsys.readouterr().out
        return figures[-1]

    return drawn


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_a_column_for_everything_that_training_sees(drawn):
    figure = drawn("aug=concutmix", "loss=bcl")
    assert titles(figure) == ["view", "contrast 1", "contrast 2", "patch from", "mixed"]
    captions = [axes.get_xlabel() for axes in figure.axes[4::5]]
    for caption in captions:
        assert sum(float(line.split()[0]) for line in caption.splitlines()) == pytest.approx(1, abs=0.02)
        assert "digit" in caption


def test_without_mixing_only_views(drawn):
    assert titles(drawn("aug=standard")) == ["view"]


def test_mixup_shows_what_it_mixed(drawn):
    figure = drawn("aug=mixup")
    view, mixed = (torch.as_tensor(axes.images[0].get_array()) for axes in figure.axes[:2])
    assert titles(figure) == ["view", "mixed"]
    assert mixed.shape == view.shape


def test_patches_that_never_come(drawn, capsys):
    with pytest.raises(SystemExit) as end:
        drawn("aug=cmo", "aug.paste.probability=0")
    assert end.value.code == 2
    assert "aug.paste mixed none of 64 batches" in capsys.readouterr().err
