"""CAR, the Confusion-Aware Spectral Regularizer (arXiv 2603.16732, CVPR 2026)."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from carlt.distributed import gather_ragged, world_size
from carlt.errors import CarltError
from carlt.functional import confusion as cf
from carlt.functional import spectral
from carlt.functional.prior import frequency_weights, relative_frequency
from carlt.ranges import Count, Finite, NonNegative, ShareBelowOne, checked

Absent = Literal["decay", "hold"]
Gradient = Literal["batch", "class"]
PRIOR_BATCHES = 100


class CAR(nn.Module):
    """weight * || Lambda C^_t ||_2, the spectral norm of a running, frequency-weighted confusion matrix (eq. 7-9).

    C^_t     = beta C^_{t-1} + (1 - beta) C~_t,  C^_0 = 0      C~_t: the batch's surrogate confusion, rows true classes
    lambda_j = (m_j + r0)^(-1/2),  m_j = n_j / sum n           m: relative class frequency

    History is a constant: the gradient, u v^T of the leading singular pair, reaches the logits through C~_t alone.
    In training mode each call updates ``confusion``; in eval mode no state changes and the result is the weighted norm
    of the estimate as it stands. A batch with non-finite logits changes nothing but the counters and costs zero.
    With torch.distributed, the batch is that of all ranks, and gradients are those that DDP's mean makes right.
    Under gradient accumulation every micro-batch is a batch: each enters the estimate by itself, and an optimizer step
    of k of them multiplies the history by beta^k. ``beta ** (1 / k)`` gives it the memory of one batch per step.

    >>> car = CAR(class_counts=[500, 120, 30, 5], weight=0.5)
    >>> logits = torch.tensor([[2.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]], requires_grad=True)
    >>> loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3])) + car(logits, torch.tensor([0, 3]))
    >>> loss.backward()
    >>> bool(car.confusion[3, 0] > car.confusion[0, 1] > 0)  # class 3 was mistaken for class 0
    True

    Args:
        class_counts: training images of each class, each at least 1, (C,).
        weight: of the penalty, at least 0.
        beta: EMA memory in [0, 1).
        r0: smoothing of the frequencies, at least 0.
        frequency_weight: False leaves Lambda out, as the paper's ablation does: all rows count alike, with weight 1.
        margin: of the soft gate, in logits.
        surrogate: ``"paper"``, or ``"released"``: the authors' code (see ``functional.contributions``), with lambda
            divided by its mean, and a first batch that replaces C^_0 and carries no gradient. Its defaults were
            beta 0.9 and margin 0.
        debias: divide the estimate by the weight that batches have in it, 1 - beta^t, against the cold start.
        absent: how the rows of classes missing from a batch change: ``"decay"`` by beta (the paper), or ``"hold"``.
        gradient: ``"batch"``, of the norm of C^_t, which pushes a class as often as batches hold it (the paper); or
            ``"class"``, an unbiased estimate of the gradient of the whole training set's norm, which pushes every class
            alike: a class's part is divided by the chance that a batch holds it and not multiplied by 1 - beta. The
            chance is counted, so any sampler will do; the count begins as if ``PRIOR_BATCHES`` batches
            were drawn by image.
        max_skipped: this many non-finite batches in a row raise.

    Raises:
        CarltError: an argument outside its range; in training, a label outside [0, C) or ``max_skipped`` reached.
    """

    paper: ClassVar[str] = "CAR, confusion-aware spectral regularizer (arXiv 2603.16732, CVPR 2026)"

    confusion: Tensor  # (C, C) C^_t, rows true classes
    direction: Tensor  # (C,) last right singular vector: where the next search starts
    updates: Tensor  # (C,) batches that entered each row
    seen: Tensor | None  # (C + 1,) batches that held each class, and all batches, for gradient="class"
    spectral_norm: Tensor  # () last || Lambda C^_t ||_2
    skipped_steps: Tensor  # () batches left out for non-finite logits
    skipped_in_a_row: Tensor  # ()
    row_weight: Tensor  # (C,) lambda
    frequency: Tensor  # (C,) m
    row_norm: Tensor | None  # (C,) norms of confusion's rows, where C is large enough to leave rows out

    @checked
    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        *,
        weight: NonNegative = 0.5,
        beta: ShareBelowOne = 0.5,
        r0: NonNegative = 0.2,
        frequency_weight: bool = True,
        margin: Finite = 0.1,
        surrogate: cf.Surrogate = "paper",
        debias: bool = False,
        absent: Absent = "decay",
        gradient: Gradient = "batch",
        max_skipped: Count = 10,
    ):
        super().__init__()
        self.weight, self.beta, self.margin, self.surrogate = weight, beta, margin, surrogate
        self.debias, self.absent, self.gradient, self.max_skipped = debias, absent, gradient, max_skipped
        row_weight = frequency_weights(class_counts, r0)
        if not frequency_weight:
            row_weight = torch.ones_like(row_weight)
        if surrogate == "released":
            row_weight = row_weight / row_weight.mean()
        size = self.num_classes = len(row_weight)
        self.exact_row_weight = row_weight  # in float64, in case the buffers become float64
        self.register_buffer("row_weight", row_weight.float(), persistent=False)
        self.register_buffer("frequency", relative_frequency(class_counts).float(), persistent=False)
        self.register_buffer("confusion", torch.zeros(size, size))
        self.register_buffer("direction", torch.zeros(size))
        self.register_buffer("updates", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("spectral_norm", torch.zeros(()))
        self.register_buffer("skipped_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(size + 1, dtype=torch.int64) if gradient == "class" else None)
        self.register_buffer("skipped_in_a_row", torch.zeros((), dtype=torch.int64))
        self.search_error = 0.0  # of the last direction, about the sine of its angle to the exact one
        self.register_buffer("row_norm", torch.zeros(size) if size > spectral.LARGE else None)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The weighted penalty, a scalar: logits floating (N, C), targets int64 (N,) or soft labels floating (N, C)."""
        cf.check_batch(logits, targets, self.num_classes)
        if not self.training:
            return self.weight * self.spectral_norm
        dtype = torch.promote_types(logits.dtype, torch.float32)  # float32 under autocast, float64 as given
        if self.confusion.dtype != dtype and self.confusion.dtype != torch.float64:
            self.to(dtype)
            self.row_weight.copy_(self.exact_row_weight)
        with torch.autocast(logits.device.type, enabled=False):
            return self.weight * self._norm(logits.to(self.confusion.dtype), targets)

    def _norm(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Take the batch into ``confusion`` and return || Lambda C^_t ||_2; unusable batches are masked without a
        branch, so that only the spectral search waits for a GPU."""
        hard = not targets.is_floating_point()
        valid = cf.valid_targets(targets, self.num_classes)
        sample, label, share = cf.expand_soft_labels(targets, logits.dtype)
        label = label.clamp(0, self.num_classes - 1)
        constant = logits.detach()[sample]
        gate, rival = cf.gate_and_rival(constant, label, self.margin, self.surrogate)
        rows = gate * rival
        finite = (constant.sum() + rows.sum()).isfinite()
        (rows, classes, shares), flags, mine = gather_ragged((rows, label, share), torch.stack([valid, finite]))
        ok = flags.all()
        if logits.is_cuda:
            rows = rows.where(ok, 0)
        elif not ok:
            return self._skip(logits, targets, flags)

        slot, owner = cf.class_slots(classes, self.num_classes)
        mass = cf.slot_sums(shares, slot, len(owner))
        inverse = mass.clamp_min(torch.finfo(mass.dtype).tiny).reciprocal()
        means = cf.slot_sums(rows if hard else shares[:, None] * rows, slot, len(owner)).mul_(inverse[:, None])
        batch = self.row_weight[owner] @ means
        gain, kept = self._take(owner, means, (mass > 0) & ok, ok)
        del rows, means
        sigma, u, v = self._search(batch, kept)
        if not ok:
            return self._skip(logits, targets, flags)
        self.skipped_in_a_row.zero_()
        self.spectral_norm.copy_(sigma)
        self.direction.copy_(v)
        if self.gradient == "class":
            gain = 1 / self._chance(owner, mass)
        if not logits.requires_grad:
            return sigma

        # d sigma = u^T d(Lambda C^_t) v, and of C^_t only this rank's contributions are not constants.
        slope = gain * self.row_weight[owner] * u[owner] * inverse
        scale = world_size() * (slope[slot] * shares)[mine]  # DDP divides gradients by the world size
        gradient = cf.contributions_gradient(gate, rival, label, v, scale, self.surrogate)
        linear = (logits[sample] * gradient).sum()  # has just this gradient
        return sigma + (linear - linear.detach())

    def _take(self, owner: Tensor, means: Tensor, present: Tensor, ok: Tensor) -> tuple[Tensor, Tensor]:
        """Take each slot's class mean, which is overwritten, into the EMA.

        Returns d confusion / d means, () or a slot, and the least share that an old row has kept.
        """
        hold = self.absent == "hold"
        gain = slope = ok.to(means.dtype) * (1 - self.beta)
        if self.debias or self.surrogate == "released":
            step = self.updates[owner if hold else slice(1)] + 1
            if self.debias:  # a running mean with this gain is C^_t / (1 - beta^t)
                gain = slope = gain / (1 - self.beta ** step.to(means.dtype))
            if self.surrogate == "released":  # the first batch replaces C^_0, as a constant
                gain, slope = torch.where(step == 1, ok.to(gain), gain), gain * (step > 1)
        if hold:
            change = means.sub_(self.confusion[owner]).mul_((gain * present)[:, None])
            self.updates.index_add_(0, owner, present.long())
        else:
            cf.scale_rows_(self.confusion, 1 - gain, self.row_norm)
            change = means.mul_(gain)
            self.updates += ok
        self.confusion.index_add_(0, owner, change)  # empty slots add zeros
        if self.row_norm is not None:
            self.row_norm[owner] = torch.linalg.vector_norm(self.confusion[owner], dim=1)
        return slope, 1 - gain.max()

    def _chance(self, owner: Tensor, mass: Tensor) -> Tensor:
        """The chance that a batch holds each slot's class, from the batches before this one, which is then counted."""
        assert self.seen is not None
        by_image = -torch.expm1(mass.sum() * torch.log1p(-self.frequency[owner]))
        chance = (PRIOR_BATCHES * by_image + self.seen[owner]) / (PRIOR_BATCHES + self.seen[-1])
        self.seen.index_add_(0, owner, (mass > 0).long())
        self.seen[-1] += 1
        return chance

    def _search(self, batch: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Leading triplet of Lambda C^_t, from the last direction, some of the batch's and a little of everything."""
        start = self.direction + 0.1 * spectral.unit(batch) + 0.01 * self.num_classes**-0.5
        rows = None
        if self.row_norm is not None:
            # Entries are not negative, so C^_t >= kept C^_{t-1} in each, and so in norm.
            rows = spectral.active_rows(self.row_weight * self.row_norm, floor=kept * self.spectral_norm)
        sigma, u, v, self.search_error = spectral.leading_triplet(self.confusion, self.row_weight, start, rows)
        return sigma, u, v

    def _skip(self, logits: Tensor, targets: Tensor, flags: Tensor) -> Tensor:
        """Zero, with a zero gradient, for a batch that was left out. Raises where silence would hide a mistake."""
        if not flags[0]:
            low, high = (x.item() for x in targets.aminmax())
            raise CarltError(
                f"targets (of this process) run from {low} to {high}; labels are in [0, {self.num_classes}), as many "
                "as class_counts has, and soft labels finite and at least 0"
            )
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= self.max_skipped:
            raise CarltError(
                f"logits were not finite in {self.max_skipped} steps in a row: training has diverged; "
                "lower the learning rate or clip gradients (CAR's max_skipped sets how long to wait)"
            )
        return logits[:0].sum()

    def extra_repr(self) -> str:
        return (
            f"classes={self.num_classes}, weight={self.weight}, beta={self.beta}, margin={self.margin}, "
            f"surrogate={self.surrogate!r}, absent={self.absent!r}, gradient={self.gradient!r}, debias={self.debias}"
        )

    @torch.no_grad()
    def true_confusion(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """The surrogate confusion of a whole set under fixed weights, which ``confusion`` estimates: (C, C).

        Args:
            batches: (logits (N, C), targets) of all batches, from a model in eval mode.
        """
        sums, mass = torch.zeros_like(self.confusion), torch.zeros_like(self.row_weight)
        for logits, targets in batches:
            cf.accumulate_confusion_(sums, mass, logits, targets, self.margin, self.surrogate)
        return cf.mean_confusion(sums, mass)
