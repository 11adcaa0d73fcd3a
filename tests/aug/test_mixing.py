"""Mixing: inputs stay as they are, labels keep their mass, draws follow torch's generator."""

import pytest
import torch

from carlt.aug import Paste, Remix, SemanticLabels
from carlt.errors import CarltError

COUNTS = torch.tensor([90, 30, 3])
LABELS = torch.tensor([0, 1, 2, 0, 0, 2])


@pytest.fixture
def images():
    return torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def test_paste_takes_one_box_of_each_foreground(images):
    foreground, before = images + 10, images.clone()
    shares = []
    for seed in range(100):
        torch.manual_seed(seed)
        mixed, share = Paste()(images, foreground)
        pasted = mixed >= 10
        assert (pasted == pasted[0, 0]).all()  # the same box everywhere
        assert share == pytest.approx(1 - pasted[0, 0].float().mean())  # exact, also where it was cut off
        assert torch.equal(torch.where(pasted, foreground, images), mixed)
        shares.append(share)
    assert torch.equal(images, before)
    assert min(shares) < 0.3
    assert max(shares) > 0.9


def test_a_box_has_the_shape_of_its_picture():
    widest = 0
    for seed in range(50):
        torch.manual_seed(seed)
        mixed, share = Paste()(torch.zeros(2, 1, 4, 20), torch.ones(2, 1, 4, 20))
        assert share == pytest.approx(1 - mixed.mean().item())
        widest = max(widest, int(mixed[0, 0].any(0).sum()))
    assert widest > 4


def test_alpha_of_paste_draws_the_background_s_share():
    """Nearly always a half where alpha is large, and all or nothing where it is small, but for the border."""
    images, foreground = torch.zeros(2, 1, 20, 20), torch.ones(2, 1, 20, 20)

    def shares(alpha):
        torch.manual_seed(0)
        return torch.tensor([Paste(alpha=alpha)(images, foreground)[1] for _ in range(300)])

    assert shares(1e4).min() > 0.45
    assert 0.2 < (shares(0.05) == 1).double().mean() < 0.5


def test_paste_is_a_function_of_the_seed(images):
    def once(seed):
        torch.manual_seed(seed)
        return Paste()(images, images.flip(0))

    assert torch.equal(once(1)[0], once(1)[0])
    assert len({once(seed)[1] for seed in range(10)}) > 5


def test_when_paste_mixes():
    paste = Paste(probability=0.4, first=4, last=3, epochs=20)
    assert [paste.is_mixed(epoch, 0.39) for epoch in (3, 4, 16, 17)] == [False, True, True, False]
    assert not paste.is_mixed(10, 0.4)
    assert Paste(probability=1).is_mixed(10**9, 0.999)
    assert not Paste(probability=0).is_mixed(0, 0.0)


def test_paste_says_where_it_mixes_nothing(caplog):
    assert not any(Paste(first=4, last=3, epochs=7).is_mixed(epoch, 0.0) for epoch in range(7))
    assert "mixes no batch: without the first 4 and the last 3 epochs none of 7 are left" in caplog.text
    caplog.clear()
    assert Paste(first=4, last=3, epochs=8).is_mixed(4, 0.0)
    assert not caplog.records


def test_remix_mixes_and_leans_to_the_rare(images):
    before, rare, mixed_at_all = images.clone(), 0.0, False
    for seed in range(50):
        torch.manual_seed(seed)
        mixed, soft = Remix(COUNTS)(images, LABELS)
        torch.testing.assert_close(soft.sum(1), torch.ones(6))
        rare += float(soft[:, 2].mean()) / 50
        mixed_at_all |= not torch.equal(mixed, images)
    assert torch.equal(images, before)
    assert mixed_at_all
    assert rare > 0.36  # by area it would be a third


def test_labels_of_remix_are_the_shares_of_the_images():
    """Every image shows the number of its class, so that a mixed one shows the mean under its labels."""
    images = LABELS.float()[:, None, None, None].expand(6, 1, 2, 2)
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, soft = Remix(COUNTS, kappa=1000.0)(images, LABELS)  # no ratio of counts is so large
        torch.testing.assert_close(mixed[:, 0, 0, 0], soft @ torch.arange(3.0))


def test_alpha_of_remix_draws_an_image_s_share():
    images = torch.eye(6)[:, :, None, None]  # of the image in place i only channel i is 1
    found = {}
    for alpha in (1e4, 0.05):
        torch.manual_seed(0)
        own = torch.cat([Remix(COUNTS, alpha=alpha)(images, LABELS)[0].flatten(1).diagonal() for _ in range(200)])
        found[alpha] = own[own < 1]  # where the partner is another image
    assert (found[1e4] - 0.5).abs().max() < 0.05
    assert ((found[0.05] - 0.5).abs() > 0.25).double().mean() > 0.85


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_an_image_s_share_below_tau_gives_the_rarer_class_the_whole_label(tau):
    """Every image shows the number of its class, and each class has at least three times as many as the next one."""
    images, numbers = LABELS.float()[:, None, None, None].expand(6, 1, 2, 2), torch.arange(3.0)
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, soft = Remix(COUNTS, tau=tau)(images, LABELS)
        if tau:
            assert (soft.max(1).values == 1).all()
            assert (soft @ numbers >= mixed[:, 0, 0, 0] - 1e-6).all()
        else:
            torch.testing.assert_close(mixed[:, 0, 0, 0], soft @ numbers)


def test_semantic_labels_wait_for_their_start():
    labels = torch.tensor([[0.6, 0.4, 0.0]])
    features, centres = torch.zeros(1, 2), torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    relabel = SemanticLabels(COUNTS, start=0.5, omega=1.0, top_k=2)
    for progress, corrected in ((0.0, False), (0.49, False), (0.5, True), (0.9, True)):
        relabel.set_progress(progress)
        result = relabel(features, centres, labels)
        assert torch.equal(result, labels) != corrected
        assert float(result.sum()) == pytest.approx(1)


def test_the_recipes_defaults():
    """0.2 C / 255 and at most 30 of 0.3 C are the released values for 10, 100 and 1,000 classes."""
    for classes, omega, top_k in ((10, 2 / 255, 3), (100, 20 / 255, 30), (1000, 200 / 255, 30)):
        labels = SemanticLabels(torch.ones(classes))
        assert (labels.omega, labels.top_k) == (pytest.approx(omega), top_k)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Paste(probability=1.5), "probability=1.5"),
        (lambda: Paste(alpha=0), "alpha=0"),
        (lambda: Paste(last=3), "last=3 needs epochs"),
        (lambda: Remix(COUNTS, kappa=0.5), "kappa=0.5"),
        (lambda: SemanticLabels(COUNTS, top_k=4), "top_k=4"),
        (lambda: SemanticLabels(COUNTS, start=2), "start=2"),
    ],
)
def test_mistakes(make, complaint):
    with pytest.raises(CarltError, match=complaint):
        make()
