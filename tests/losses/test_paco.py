"""PaCo against loops; its queue is a ring, its momentum encoder follows, and both are saved."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from carlt.errors import CarltError
from carlt.functional.contrastive import parametric_contrastive
from carlt.losses import PaCo
from carlt.losses.step import StepInput
from carlt.models import SmallCNN
from carlt.ranges import arguments_of

COUNTS = torch.tensor([50, 9, 2])
N, M, C, D = 4, 5, 3, 6
LABELS = torch.tensor([0, 0, 1, 2])
KEY_LABELS = torch.tensor([0, 2, -1, 1, 2])  # the third is an empty place
IMAGES = torch.randn(2, N, 1, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def parts() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((N, C), (N, D), (M, D))
    logits, queries, keys = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes)
    return logits.requires_grad_(), queries.requires_grad_(), keys


@pytest.fixture
def network() -> SmallCNN:
    torch.manual_seed(0)
    return SmallCNN(C, in_channels=1, width=3)


def made(network: SmallCNN, **options: object) -> PaCo:
    torch.manual_seed(1)
    return PaCo(COUNTS, network, 6, dim=D, **options)


def step() -> StepInput:
    return StepInput(IMAGES[0], LABELS, LABELS, IMAGES[1:])


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def loops(logits: Tensor, shares: Tensor, queries: Tensor, keys: Tensor, alpha: float, temperature: float) -> float:
    total, q, t = 0.0, queries.tolist(), shares.tolist()
    for i in range(N):
        scores, weights = logits[i].tolist(), list(t[i])
        for k in range(N):
            if k != i:
                scores.append(cosine(q[i], q[k]) / temperature)
                weights.append(alpha * sum(t[i][c] * t[k][c] for c in range(C)))
        for k, label in enumerate(KEY_LABELS.tolist()):
            if label >= 0:
                scores.append(cosine(q[i], keys[k].tolist()) / temperature)
                weights.append(alpha * t[i][label])
        whole = math.log(sum(map(math.exp, scores)))
        total -= sum(w * (s - whole) for w, s in zip(weights, scores, strict=True)) / sum(weights)
    return total / N


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_against_loops(soft: bool, alpha: float, parts: tuple[Tensor, ...]) -> None:
    logits, queries, keys = parts
    shares = one_hot(LABELS, C).double()
    if soft:
        shares = 0.3 * shares + 0.7 * shares.roll(1, 0)
    value = parametric_contrastive(logits, shares if soft else LABELS, queries, keys, KEY_LABELS, alpha, 0.5)
    assert value.item() == pytest.approx(loops(logits, shares, queries, keys, alpha, 0.5), rel=1e-12)


def test_gradient_is_right_and_not_zero(parts: tuple[Tensor, ...]) -> None:
    logits, queries, keys = parts

    def loss(z: Tensor, q: Tensor) -> Tensor:
        return parametric_contrastive(z, LABELS, q, keys, KEY_LABELS, 0.3, 0.5)

    assert torch.autograd.gradcheck(loss, (logits, queries))
    for gradient in torch.autograd.grad(loss(logits, queries), (logits, queries)):
        assert (gradient.abs().sum(1) > 1e-6).all()


def test_numbering_the_classes_otherwise_changes_nothing(parts: tuple[Tensor, ...]) -> None:
    logits, queries, keys = parts
    order = torch.tensor([2, 0, 1])
    place = order.argsort()
    renamed = torch.where(KEY_LABELS < 0, -1, place[KEY_LABELS])
    one = parametric_contrastive(logits, LABELS, queries, keys, KEY_LABELS, 0.3, 0.5)
    other = parametric_contrastive(logits[:, order], place[LABELS], queries, keys, renamed, 0.3, 0.5)
    torch.testing.assert_close(one, other)


def test_the_prior_enters_the_logits(parts: tuple[Tensor, ...], network: SmallCNN) -> None:
    logits, queries, keys = parts
    adjusted = logits + (COUNTS / COUNTS.sum()).log()
    expected = parametric_contrastive(adjusted, LABELS, queries, keys, KEY_LABELS, 0.01, 0.05)
    torch.testing.assert_close(made(network)(logits, LABELS, queries, keys, KEY_LABELS), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_large_scores_stay_finite(dtype: torch.dtype, parts: tuple[Tensor, ...]) -> None:
    logits, queries, keys = ((1e4 * part.detach()).to(dtype).requires_grad_() for part in parts)
    value = parametric_contrastive(logits, LABELS, queries, keys, KEY_LABELS, 0.3, 0.05)
    assert value.dtype == torch.float32
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, (logits, queries)))


def test_everything_but_the_momentum_encoder_learns(network: SmallCNN) -> None:
    loss = made(network, momentum=0.9, alpha=0.5)
    before = {key: value.clone() for key, value in loss.encoder.named_parameters()}
    learnt = loss.compute_loss(network, step())
    learnt.loss.backward()
    assert all(p.grad.any() for p in (*network.parameters(), *loss.projector.parameters()))
    kept = (*loss.encoder.parameters(), *loss.key_projector.parameters())
    assert all(p.grad is None and not p.requires_grad for p in kept)
    assert all(torch.equal(p, before[key]) for key, p in loss.encoder.named_parameters())  # of equal networks
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    loss.compute_loss(network, step())
    for key, parameter in loss.encoder.named_parameters():
        torch.testing.assert_close(parameter, before[key] + 0.1)


def test_keys_are_of_the_further_view_by_the_momentum_encoder_after_its_step(network: SmallCNN) -> None:
    loss = made(network, momentum=0.0).eval()
    network.eval()
    with torch.no_grad():
        for parameter in (*network.parameters(), *loss.projector.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
        expected = torch.nn.functional.normalize(loss.projector(network.features(IMAGES[1])), dim=1)
    loss.compute_loss(network, step())
    torch.testing.assert_close(loss.queue[:N], expected)


def entries(labels: Tensor, keys: Tensor) -> set[tuple[float, ...]]:
    return {(label, *key) for label, key in zip(labels.tolist(), keys.tolist(), strict=True)}


def test_the_queue_keeps_the_last_keys_of_all(network: SmallCNN) -> None:
    loss = made(network, queue=6)
    assert (loss.queue_labels == -1).all()
    keys = torch.nn.functional.normalize(torch.randn(17, D), dim=1)
    labels = torch.randint(C, (17,))
    seen = 0
    for size in (4, 4, 9):  # the last is longer than the queue
        loss._enqueue(keys[seen : seen + size], labels[seen : seen + size])
        seen += size
        last = entries(labels[max(seen - 6, 0) : seen], keys[max(seen - 6, 0) : seen])
        assert last == {entry for entry in entries(loss.queue_labels, loss.queue) if entry[0] >= 0}


def test_a_step_contrasts_with_what_the_queue_held_before_it(network: SmallCNN) -> None:
    network.eval()
    loss = made(network, alpha=0.5).eval()
    first = loss.compute_loss(network, step()).loss
    assert (loss.queue_labels[:N] == LABELS).all()
    assert (loss.queue_labels[N:] == -1).all()
    second = loss.compute_loss(network, step()).loss
    assert not torch.equal(first, second)


def test_the_network_is_not_kept_as_an_argument(network: SmallCNN) -> None:
    assert {"class_counts", "dim"} <= arguments_of(made(network)).keys()
    assert "network" not in arguments_of(made(network))


def test_a_checkpoint_holds_all_its_state(network: SmallCNN) -> None:
    loss, other = made(network), made(network)
    for _ in range(3):
        loss.compute_loss(network, step())
    other.load_state_dict(loss.state_dict())
    assert torch.equal(loss.compute_loss(network, step()).loss, other.compute_loss(network, step()).loss)
    assert torch.equal(loss.queue, other.queue)


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", 0), ("alpha", -1), ("queue", 0), ("momentum", 1.0), ("dim", 0)]
)
def test_mistakes(name: str, value: float, network: SmallCNN) -> None:
    with pytest.raises(CarltError, match=name):
        PaCo(COUNTS, network, 6, **{name: value})
