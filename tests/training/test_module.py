"""One step: normalise, mix, forward, loss + regularizer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from carlt.data.batch import Batch
from carlt.errors import CarltError
from carlt.losses.base import NetworkLoss
from carlt.losses.step import StepInput, StepOutput
from carlt.training.module import LongTailClassifier
from carlt.training.optim import SGD

C = 3


class Recorder(nn.Module):
    """Stands for the network, the loss or the regularizer: keeps what it was given and returns what it was told."""

    def __init__(self, result: Callable[..., Tensor]):
        super().__init__()
        self.result = result

    def forward(self, *given: Tensor) -> Tensor:
        self.given = given
        return self.result(*given)


def classifier(**parts: object) -> LongTailClassifier:
    usual = {
        "model": Recorder(lambda images: images.mean((2, 3)) @ torch.ones(2, C)),
        "loss": Recorder(lambda logits, targets: torch.tensor(2.0)),
        "reg": Recorder(lambda logits, targets: torch.tensor(0.5)),
        "optim": SGD(0.1),
        "class_counts": torch.tensor([30, 20, 10]),
        "mean": (0.5, 0.0),
        "std": (0.5, 2.0),
    }
    module = LongTailClassifier(**(usual | parts))
    module.log = lambda *_, **__: None  # no trainer is attached
    return module


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    images = torch.zeros(4, 2, 2, 2, dtype=torch.uint8)
    images[:, 1] = 255
    return images, torch.tensor([0, 1, 2, 2])


def test_images_are_normalised_by_channel(batch: tuple[Tensor, Tensor]) -> None:
    module = classifier()
    module(batch[0])
    (seen,) = module.model.given
    assert (seen[:, 0] == -1).all()
    assert (seen[:, 1] == 0.5).all()


@pytest.mark.parametrize(("channels_last", "stride"), [(False, (8, 4, 2, 1)), (True, (8, 1, 4, 2))])
def test_images_are_laid_out_as_asked(batch: tuple[Tensor, Tensor], channels_last: bool, stride: tuple[int]) -> None:
    module = classifier(channels_last=channels_last)
    module(batch[0])
    (seen,) = module.model.given
    assert seen.stride() == stride


def test_a_step_is_loss_plus_penalty_of_the_same_logits(batch: tuple[Tensor, Tensor]) -> None:
    module = classifier()
    outputs = module.training_step(batch, 0)
    (logits, targets), (reg_logits, reg_targets) = module.loss.given, module.reg.given
    assert outputs["loss"] == 2.5
    assert torch.equal(outputs["logits"], logits)
    assert logits is reg_logits
    assert torch.equal(targets, batch[1])
    assert torch.equal(reg_targets, batch[1])


def test_the_loss_sees_the_logits_that_the_regularizer_adjusts(batch: tuple[Tensor, Tensor]) -> None:
    reg = Recorder(lambda logits, targets: torch.tensor(0.5))
    reg.adjust = lambda logits: logits - torch.tensor([1.0, 2.0, 3.0])
    module = classifier(reg=reg)
    outputs = module.training_step(batch, 0)
    assert torch.equal(module.loss.given[0], outputs["logits"] - torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(reg.given[0], outputs["logits"])  # and what it measures is what is tested
    assert torch.equal(module.eval()(batch[0]), outputs["logits"])


def test_a_loss_of_one_s_own_that_does_not_fit_is_named(batch: tuple[Tensor, Tensor]) -> None:
    of_each = Recorder(lambda logits, targets: nn.functional.cross_entropy(logits, targets, reduction="none"))
    with pytest.raises(CarltError, match=r"loss: Recorder gave a tensor \(4,\); it must give one number"):
        classifier(loss=of_each).training_step(batch, 0)
    by_index = Recorder(lambda logits, targets: logits[torch.arange(4), targets].mean())
    mix = Recorder(lambda images, labels: (images, torch.full((4, C), 1 / 3)))
    classifier(loss=by_index).training_step(batch, 0)
    with pytest.raises(CarltError, match="loss: Recorder does not take the soft labels of mixed images"):
        classifier(loss=by_index, mix=mix).training_step(batch, 0)


def test_mixing_comes_after_normalising_and_reaches_loss_and_regularizer(batch: tuple[Tensor, Tensor]) -> None:
    soft = torch.full((4, C), 1 / 3)
    mix = Recorder(lambda images, labels: (images + 1, soft))
    module = classifier(mix=mix)
    module.training_step(batch, 0)
    assert mix.given[0].min() == -1
    assert module.model.given[0].min() == 0
    assert module.loss.given[1] is soft
    assert module.reg.given[1] is soft


def test_labels_of_a_pasted_batch_have_the_shares_of_its_pixels(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    pasted, others = images.flip(1), labels.flip(0)
    module = classifier(paste=lambda images, foreground: (foreground, 0.25))  # a quarter is left
    seen, soft = module.mixed(Batch(images, labels, None, (pasted, others)))
    torch.testing.assert_close(soft, 0.25 * one_hot(labels, C) + 0.75 * one_hot(others, C))
    assert torch.equal(seen, module.normalise(pasted))


def test_logits_that_a_step_returns_have_no_graph(batch: tuple[Tensor, Tensor]) -> None:
    """Or each step of an epoch would stay in memory."""
    weight = torch.ones(2, C, requires_grad=True)
    module = classifier(
        model=Recorder(lambda images: images.mean((2, 3)) @ weight),
        loss=Recorder(lambda logits, targets: logits.mean()),
    )
    outputs = module.training_step(batch, 0)
    assert outputs["loss"].requires_grad
    assert not outputs["logits"].requires_grad


def test_a_loss_that_runs_the_network_is_given_normalised_images_and_the_adjustment(
    batch: tuple[Tensor, Tensor],
) -> None:
    class Kept(NetworkLoss):
        def compute_loss(self, network: nn.Module, step: StepInput) -> StepOutput:
            self.step = step
            return StepOutput(torch.zeros(4, C), step.targets, torch.tensor(0.0))

    images, labels = batch
    other, others = images.flip(1), labels.flip(0)
    module = classifier(loss=Kept())
    module.reg.adjust = lambda logits: logits - 1
    module.training_step(Batch(images, labels, torch.stack([images, other]), (other, others)), 0)
    step = module.loss.step
    assert torch.equal(step.images, module.normalise(images))
    assert torch.equal(step.contrast, torch.stack([module.normalise(images), module.normalise(other)]))
    assert torch.equal(step.second[0], module.normalise(other))
    assert torch.equal(step.second[1], others)
    assert torch.equal(step.adjust(torch.ones(C)), torch.zeros(C))


@pytest.mark.parametrize(
    ("other", "same"),
    [({}, True), ({"seed": 8}, False), ({"rank": 1}, False), ({"batch_idx": 1}, False), ({"epoch": 1}, False)],
    ids=str,
)
def test_seed_rank_epoch_and_batch_decide_the_draws_of_a_step(
    other: dict[str, int], same: bool, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = []
    for at in ({}, other):
        torch.manual_seed(len(draws))  # what was drawn before does not matter
        module = classifier(model=Recorder(lambda images: torch.rand(4, C)), seed=at.get("seed", 7))
        monkeypatch.setattr(LongTailClassifier, "global_rank", at.get("rank", 0))
        monkeypatch.setattr(LongTailClassifier, "current_epoch", at.get("epoch", 0))
        module.training_step(batch, at.get("batch_idx", 0))
        draws.append(module.loss.given[0])
    assert torch.equal(*draws) == same


@pytest.mark.parametrize("resumed", [False, True])
def test_training_means_are_over_images(
    resumed: bool, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LongTailClassifier, "trainer", None)
    monkeypatch.setattr("carlt.training.module.goes_on_within_epoch", lambda trainer: resumed)
    losses = iter([1.0, 4.0])
    module = classifier(
        model=Recorder(lambda images: torch.eye(C)[[0] * len(images)]),
        loss=Recorder(lambda logits, targets: torch.tensor(next(losses))),
    )
    images, labels = batch
    module.training_step((images, labels), 0)
    module.training_step((images[:2], labels[:2]), 1)
    assert module.train_means["loss"].compute() == pytest.approx((4 * 1.0 + 2 * 4.0) / 6)
    module.on_train_epoch_start()  # of a new epoch, or once more of this one, as Lightning 2.4 does
    assert all((metric.update_count == 0) is not resumed for metric in module.train_means.values())


def test_evaluation_counts_every_image_once(batch: tuple[Tensor, Tensor]) -> None:
    module = classifier(model=Recorder(lambda images: torch.eye(C)[[0, 1, 1, 2]]))
    for _ in range(2):
        module.test_step(batch, 0)
        module.on_test_epoch_end()
        assert module.evaluation.total.tolist() == [1, 1, 2]
        assert module.evaluation.correct.tolist() == [1, 1, 1]


def test_the_running_mean_follows_the_weights_and_is_what_is_evaluated() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, C), nn.BatchNorm1d(C))
    module = classifier(model=network, optim=SGD(0.1, ema_decay=0.7))
    weight, statistic = network[1].weight, network[2].running_mean
    mean, mean_statistic = torch.zeros_like(weight), torch.zeros_like(statistic)
    for step in range(8):
        with torch.no_grad():
            weight.normal_()
            statistic.normal_()
        module.average.update_parameters(module.model)
        decay = min(0.7, 1 - (1 + step) ** (-2 / 3))
        mean = decay * mean + (1 - decay) * weight.detach()
        mean_statistic = decay * mean_statistic + (1 - decay) * statistic
    assert decay == 0.7
    torch.testing.assert_close(module.evaluated[1].weight, mean)
    torch.testing.assert_close(module.evaluated[2].running_mean, mean_statistic)
    images = torch.randint(0, 256, (4, 2, 2, 2), dtype=torch.uint8)
    normalised = module.normalise(images)
    torch.testing.assert_close(module.train()(images), network.train()(normalised))
    torch.testing.assert_close(module.eval()(images), module.average.module.eval()(normalised))
    assert not any(parameter.requires_grad for parameter in module.average.parameters())
    assert "average.module.1.weight" in module.state_dict()
    tested = module.evaluated
    module.drop_last_weights()
    assert module.model is module.evaluated is tested
    assert not any(name.startswith("average") for name in module.state_dict())


def test_a_checkpoint_holds_its_normalisation_and_one_of_version_0_1_gets_it() -> None:
    trained, loaded = classifier(mean=(0.1, 0.2), std=(0.3, 0.4)), classifier()
    before = loaded.mean.clone()
    state = trained.state_dict()
    loaded.load_state_dict({name: value for name, value in state.items() if name not in ("mean", "std")})
    assert torch.equal(loaded.mean, before)
    loaded.load_state_dict(state)
    assert torch.equal(loaded.mean, trained.mean)
    assert torch.equal(loaded.std, trained.std)
    assert "class_counts" not in state
