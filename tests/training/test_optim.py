import math

import pytest
import torch
from torch import nn

from carlt.config.targets import parameters_of
from carlt.errors import CarltError
from carlt.models import CifarResNet, SmallCNN, timm_model
from carlt.ranges import matches
from carlt.stages.lws import ScaledClassifier
from carlt.training.optim import SGD, AdamW, lr_factor, parameter_groups


def rates(optim: SGD | AdamW, epochs: int, steps: int) -> list[float]:
    """The learning rate of every step of a training."""
    configured = optim.configure(nn.Linear(2, 2), epochs, steps)
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]
    assert schedule["interval"] == "step"
    found = []
    for _ in range(epochs * steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    return found


def test_warmup_rises_linearly_to_the_peak_and_never_idles() -> None:
    found = rates(SGD(0.8, schedule="constant", warmup_epochs=2), epochs=4, steps=4)
    assert found == pytest.approx([0.1 * k for k in range(1, 9)] + [0.8] * 8)


def test_cosine_by_its_formula() -> None:
    found = rates(AdamW(0.5, schedule="cosine", min_lr=0.1), epochs=5, steps=4)
    assert found == pytest.approx([0.1 + 0.4 * (1 + math.cos(math.pi * k / 20)) / 2 for k in range(20)])
    assert lr_factor(5, 5, "cosine", floor=0.1) == pytest.approx(0.1)


def test_cosine_starts_after_warmup() -> None:
    assert lr_factor(2, 10, "cosine", warmup_epochs=2) == 1
    assert lr_factor(6, 10, "cosine", warmup_epochs=2) == pytest.approx(0.5)
    assert lr_factor(10, 10, "cosine", warmup_epochs=2) == pytest.approx(0)


def test_multistep_falls_at_160_and_180_of_200_epochs() -> None:
    found = rates(SGD(0.1, schedule="multistep"), epochs=200, steps=3)
    assert found == pytest.approx([0.1] * 480 + [0.01] * 60 + [0.001] * 60)


def test_a_milestone_is_reached_in_spite_of_rounding() -> None:
    assert 0.55 * 100 > 55
    assert lr_factor(55, 100, "multistep", milestones=(0.55,)) == 0.1


def test_a_schedule_does_not_end_above_its_peak() -> None:
    with pytest.raises(CarltError, match=r"min_lr=0\.2 is more than lr=0\.1"):
        SGD(0.1, min_lr=0.2)


def test_the_decay_of_ldam_drw() -> None:
    found = rates(SGD(0.1, schedule="multistep", gamma=0.01), epochs=200, steps=3)
    assert found == pytest.approx([0.1] * 480 + [0.001] * 60 + [0.00001] * 60)
    for gamma in (0.0, 1.5):
        with pytest.raises(CarltError, match=f"^gamma={gamma}"):
            SGD(0.1, gamma=gamma)


def test_a_part_may_have_a_rate_of_its_own_throughout() -> None:
    head = ScaledClassifier(nn.Linear(2, 3), lr_factor=0.2)
    configured = SGD(0.5, weight_decay=0.1).configure(nn.Sequential(nn.Linear(2, 2), head), 2, 4)
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    own = {id(p) for p in head.linear.parameters()}
    (mine,) = (g for g in optimizer.param_groups if {id(p) for p in g["params"]} == own)
    (others,) = (g for g in optimizer.param_groups if g is not mine)
    assert {id(p) for p in others["params"]} >= {id(head.scale)}
    for _ in range(8):
        assert mine["lr"] == pytest.approx(0.2 * others["lr"])
        optimizer.step()
        schedule.step()
    assert mine["weight_decay"] == others["weight_decay"] == 0.1


@pytest.mark.parametrize("schedule", ["constant", "cosine", "multistep"])
@pytest.mark.parametrize("warmup", [0, 0.5, 3])
def test_a_factor_is_between_0_and_1(schedule: str, warmup: float) -> None:
    factors = [lr_factor(epoch / 10, 3, schedule, warmup, (0.8, 0.9)) for epoch in range(31)]
    assert all(0 <= factor <= 1 for factor in factors)


def network() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    net[0].bias.requires_grad_(False)
    return net


def test_biases_and_norms_are_not_decayed_by_adamw() -> None:
    net = network()
    decayed, others = AdamW(1e-3, weight_decay=0.05).configure(net, 1, 1)["optimizer"].param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(net[0].weight), id(net[2].weight)]
    assert [id(p) for p in others["params"]] == [id(net[1].weight), id(net[1].bias), id(net[2].bias)]


def test_sgd_decays_everything() -> None:
    (group,) = SGD(0.1, momentum=0.8, weight_decay=2e-4).configure(network(), 1, 1)["optimizer"].param_groups
    assert (group["weight_decay"], group["momentum"], len(group["params"])) == (2e-4, 0.8, 5)


def test_options_reach_the_optimizers_of_torch() -> None:
    (group,) = SGD(0.1, momentum=0.8, nesterov=True).configure(nn.Linear(2, 2), 1, 1)["optimizer"].param_groups
    assert (group["momentum"], group["nesterov"]) == (0.8, True)
    groups = AdamW(0.1, betas=(0.7, 0.8)).configure(nn.Linear(2, 2), 1, 1)["optimizer"].param_groups
    assert all(group["betas"] == (0.7, 0.8) for group in groups)


@pytest.mark.parametrize("decay_all", [True, False])
def test_every_trainable_parameter_is_in_one_group(decay_all: bool) -> None:
    net = network()
    found = [id(p) for group in parameter_groups(net, 0.1, decay_all) for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize("optim", ["SGD", "AdamW"])
def test_a_config_may_set_the_common_arguments(optim: str) -> None:
    parameters = parameters_of(f"carlt.training.optim.{optim}")
    assert {"lr", "weight_decay", "schedule", "warmup_epochs", "milestones", "gamma", "min_lr"} <= parameters.keys()
    assert not matches("linear", parameters["schedule"].annotation)


@pytest.mark.parametrize("adapter", [None, "adaptformer"])
def test_each_layer_learns_slower_than_the_one_above(adapter: str | None) -> None:
    net = timm_model("test_vit", 3, image_size=32, adapter=adapter)
    optimizer = AdamW(1e-3, weight_decay=0.05, layer_decay=0.5).configure(net, 1, 1)["optimizer"]
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert rate.keys() == {id(p) for p in trained.values()}
    for name, p in trained.items():
        block = int(name.split(".")[1]) + 1 if name.startswith("blocks") else 0  # 0: the patches, 7: the head
        below = 7 - (7 if name.startswith("head") else 6 if name.startswith("norm") else block)
        assert rate[id(p)] == pytest.approx(1e-3 * 0.5**below), name
        assert decay[id(p)] == (0.05 if p.ndim >= 2 else 0.0), name
    assert optimizer.param_groups[0]["lr"] == 1e-3  # the one that is shown and logged


def test_our_networks_tell_their_layers() -> None:
    for net, layers in ((CifarResNet(3, 8), 5), (SmallCNN(3), 5)):
        groups = SGD(0.1, layer_decay=0.5).configure(net, 1, 1)["optimizer"].param_groups
        assert [group["lr"] for group in groups] == pytest.approx([0.1 * 0.5**below for below in range(layers)])
        assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
        assert {id(p) for p in groups[0]["params"]} == {id(p) for p in net.classifier.parameters()}


def test_a_rate_of_its_own_multiplies_that_of_the_layer() -> None:
    net = SmallCNN(3)
    own = {id(p) for p in net.features.parameters()}

    def rate() -> dict[int, float]:
        groups = SGD(0.1, layer_decay=0.5).configure(net, 1, 1)["optimizer"].param_groups
        return {id(p): group["lr"] for group in groups for p in group["params"]}

    plain = rate()
    net.classifier.lr_factors = lambda: dict.fromkeys(net.features.parameters(), 0.3)
    assert own
    assert rate() == pytest.approx({p: (0.3 if p in own else 1) * value for p, value in plain.items()})


def test_a_network_without_layers_is_named() -> None:
    with pytest.raises(CarltError, match=r"optim.layer_decay needs a network with timm's method group_matcher"):
        SGD(0.1, layer_decay=0.5).configure(nn.Linear(2, 2), 1, 1)
    for name, value in (("layer_decay", 0.0), ("layer_decay", 1.5), ("ema_decay", 1.0), ("ema_decay", -0.1)):
        with pytest.raises(CarltError, match=f"{name}={value}: expected a finite number in "):
            SGD(0.1, **{name: value})


def test_one_sgd_step_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(2.0)
    optimizer = SGD(0.1, weight_decay=0.5, schedule="constant").configure(net, 1, 10)["optimizer"]
    net(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert net.weight.item() == pytest.approx(2.0 - 0.1 * (1.0 + 0.5 * 2.0))
