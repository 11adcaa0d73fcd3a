"""CAR, the Confusion-Aware Spectral Regularizer (arXiv 2603.16732, CVPR 2026)."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from carlt.distributed import gather_ragged, sum_over_ranks, world_size
from carlt.errors import CarltError
from carlt.functional import confusion as cf
from carlt.functional import spectral
from carlt.functional.gradient import WithGradient
from carlt.functional.prior import class_margins, frequency_weights, relative_frequency
from carlt.ranges import Count, Finite, NonNegative, ShareBelowOne, checked

Absent = Literal["decay", "hold"]
Gradient = Literal["batch", "class"]
PRIOR_BATCHES = 100
Number = float | Tensor
CHECK_EVERY = 64  # calls on a GPU; each check waits for it


class CAR(nn.Module):
    """weight * || Lambda C^_t ||_2, the spectral norm of a running, frequency-weighted confusion matrix (eq. 7-9).

    C^_t     = beta C^_{t-1} + (1 - beta) C~_t,  C^_0 = 0      C~_t: the batch's surrogate confusion, rows true classes
    lambda_j = (m_j + r0)^(-1/2),  m_j = n_j / sum n           m: relative class frequency

    History is a constant: the gradient, u v^T of the leading singular pair, reaches the logits through C~_t alone.
    In training mode each call updates ``confusion``. In eval mode no state changes, and the result is the weighted norm
    of the current estimate. A batch with non-finite logits changes only the counters and has a zero penalty.
    With torch.distributed, the batch is that of all ranks. Gradients are multiplied by the world size, because DDP
    averages them over the ranks.
    A soft label counts for each class with its share. If the shares of a class in the batch add up to less than 1, its
    row has that sum as weight (the paper has hard labels only). Each share that is not 0 needs a row of C numbers: N C
    rows under label smoothing.
    Not in the paper, and off by default: ``class_margin``, ``debias``, ``absent="hold"``, ``gradient="class"`` and
    ``offset_rate``.
    On a GPU a step with one process and class labels has no host synchronisation up to 1,024 classes, and one above. So
    it can be captured in a CUDA graph or compiled (``fullgraph``); then only :meth:`check` validates batches, and you
    call it regularly. Otherwise it is called every ``CHECK_EVERY`` steps.
    Under gradient accumulation every micro-batch is a batch: each enters the estimate by itself, and an optimizer step
    of k of them multiplies the history by beta^k. ``beta ** (1 / k)`` gives it the memory of one batch per step.

    With ``offset_rate`` the norm is also made smaller over class offsets b, as if logits were z + b. The loss takes
    ``adjust(z)`` = z - b, so that the network learns to add b itself and is used as it is. After each batch

        b_c <- b_c + offset_rate C sigma (u_c^2 - v_c^2)

    with the leading triplet sigma, u, v of Lambda C^_t: a class rises if it is mistaken for others more than others are
    mistaken for it. Where a contribution grows as exp(z_i - z_y), that is a step along the norm's negative gradient
    (``docs/concepts/car.md``).

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
        class_margin: added to it for the rarest class, in logits, at least 0; class j has sqrt(n_min / n_j) of it. The
            error of a class on new images exceeds that on its n_j training images by about 1 / sqrt(n_j), so a rare
            class must be right by more.
        surrogate: ``"paper"``, or ``"released"``: the authors' code (see ``functional.contributions``), with lambda
            divided by its mean, and a first batch that replaces C^_0 and carries no gradient. Its defaults were
            beta 0.9 and margin 0.
        debias: divide the estimate by the weight that batches have in it, 1 - beta^t, against the cold start. With
            ``absent="hold"``, t counts the batches that held the class; one with a share of it counts whole, so rows of
            soft labels still start low.
        absent: how the rows of classes missing from a batch change: ``"decay"`` by beta (the paper), or ``"hold"``.
        gradient: ``"batch"``, of the norm of C^_t, which reaches a class only in batches that contain it (the paper);
            or ``"class"``, an unbiased estimate of the gradient of the whole training set's norm, in which every class
            has its full part: it is divided by the chance that a batch contains the class and not multiplied by
            1 - beta. The chance is counted, so any sampler will do; the count begins as if ``PRIOR_BATCHES`` batches
            were drawn by image.
        offset_rate: of the class offsets, at least 0; 0: no offsets.
        max_skipped: this many non-finite batches in a row raise.

    Raises:
        CarltError: an argument outside its range; in training, a label outside [0, C) or ``max_skipped`` reached (on a
            GPU at the next :meth:`check`; such batches change nothing).
    """

    paper: ClassVar[str] = "CAR, confusion-aware spectral regularizer (arXiv 2603.16732, CVPR 2026)"

    confusion: Tensor  # (C, C) C^_t, rows true classes
    direction: Tensor  # (C,) last right singular vector: where the next search starts
    offset: Tensor | None  # (C,) b, in logits
    updates: Tensor  # (C,) batches that entered each row
    seen: Tensor | None  # (C + 1,) batches that held each class (or a share), and all batches, for gradient="class"
    spectral_norm: Tensor  # () last || Lambda C^_t ||_2
    skipped_steps: Tensor  # () batches left out for non-finite logits
    skipped_in_a_row: Tensor  # ()
    wrong_batches: Tensor  # () batches that were left out for a label, since the last check
    row_weight: Tensor  # (C,) lambda
    frequency: Tensor  # (C,) m
    margins: Tensor | None  # (C,) where classes differ in it
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
        class_margin: NonNegative = 0.0,
        surrogate: cf.Surrogate = "paper",
        debias: bool = False,
        absent: Absent = "decay",
        gradient: Gradient = "batch",
        offset_rate: NonNegative = 0.0,
        max_skipped: Count = 10,
    ):
        super().__init__()
        self.weight, self.beta, self.margin, self.surrogate = weight, beta, margin, surrogate
        self.class_margin = class_margin
        self.debias, self.absent, self.gradient, self.max_skipped = debias, absent, gradient, max_skipped
        self.r0, self.frequency_weight, self.offset_rate = r0, frequency_weight, offset_rate
        row_weight = frequency_weights(class_counts, r0)
        if not frequency_weight:
            row_weight = torch.ones_like(row_weight)
        if surrogate == "released":
            row_weight = row_weight / row_weight.mean()
        size = self.num_classes = len(row_weight)
        margins = margin + class_margins(class_counts, class_margin) if class_margin else None
        self.exact = {"row_weight": row_weight, "frequency": relative_frequency(class_counts), "margins": margins}
        """The constants in float64, in case the buffers become float64."""
        for name, value in self.exact.items():
            self.register_buffer(name, None if value is None else value.float(), persistent=False)
        zeros = functools.partial(torch.zeros, dtype=torch.float32)  # whatever the default is
        self.register_buffer("confusion", zeros(size, size))
        self.register_buffer("direction", zeros(size))
        self.register_buffer("offset", zeros(size) if offset_rate else None)
        self.register_buffer("updates", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("spectral_norm", zeros(()))
        self.register_buffer("skipped_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", zeros(size + 1) if gradient == "class" else None)
        self.register_buffer("skipped_in_a_row", torch.zeros((), dtype=torch.int64))
        self.register_buffer("wrong_batches", torch.zeros((), dtype=torch.int64), persistent=False)
        self.search_error: float | Tensor = 0.0  # of the last direction, about the sine of its angle to the exact one
        self.calls = 0
        self.register_buffer("row_norm", zeros(size) if size > spectral.LARGE else None)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "CAR":
        """Move or convert the buffers, but never below float32: the running estimate would lose its last batches."""

        def apply(buffer: Tensor) -> Tensor:
            new = fn(buffer)
            return buffer.to(new.device) if new.is_floating_point() and new.element_size() < 4 else new

        super()._apply(apply, recurse)
        if self.confusion.dtype == torch.float64:
            for name, value in self.exact.items():
                if value is not None:
                    getattr(self, name).copy_(value)
        return self

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The weighted penalty, a scalar: logits floating (N, C), targets int64 (N,) or soft labels floating (N, C)."""
        cf.check_batch(logits, targets, self.num_classes)
        if not self.training:
            return self.weight * self.spectral_norm
        if logits.dtype == torch.float64 and self.confusion.dtype != torch.float64:
            self.double()
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.to(self.confusion.dtype)
            norm, gradient = self._step(logits, targets)
            return cast(Tensor, WithGradient.apply(logits, norm, gradient, self.weight))

    def _margin(self) -> float | Tensor:
        return self.margin if self.margins is None else self.margins

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits (..., C) for the loss: z - b, in float32 at least; with ``offset_rate`` 0, z itself."""
        return logits if self.offset is None else logits - self.offset

    @torch.no_grad()
    def _step(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Add the batch to ``confusion``. Returns its norm, and the gradient of the penalty with respect to the logits.

        A batch with wrong labels or non-finite logits is left out. On a CPU a branch does that, and wrong labels raise.
        On a GPU and in a compiled graph a branch would wait for the device: there its weights become 0 (``live`` is 0).
        """
        can_branch = logits.device.type == "cpu" and not torch.compiler.is_compiling()
        if logits.is_cuda and not (torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing()):
            self.calls += 1
            if self.calls % CHECK_EVERY == 0:
                self.check()
        sample, given, share = cf.expand_soft_labels(targets, logits.dtype)
        label = given.clamp(0, self.num_classes - 1)
        hard, own = isinstance(sample, slice), label[:, None]
        # 0: the batch is usable; above 0: labels are wrong; NaN: logits are not finite.
        fault = torch.add(cf.wrong_targets(targets, label), logits.sum(), alpha=0)
        if not can_branch:
            logits, share = logits.nan_to_num(0, 0, 0), share.nan_to_num(0, 0, 0)
        gate, rival = cf.gate_and_rival(logits if hard else logits[sample], own, self._margin(), self.surrogate)
        mine_rows = gate * rival
        (rows, label, share), fault, mine = gather_ragged((mine_rows, label, share), fault)
        usable, live = fault, cast("int | Tensor", 1)
        if not can_branch:
            usable = fault == 0
            live = usable.long()
        elif (found := float(fault)) != 0:  # NaN, too
            return self._skip(targets, found), torch.zeros_like(logits)

        alone = world_size() == 1
        column = own if alone else label[:, None]
        mass = cf.add_rows_(share.new_zeros(self.num_classes), label, share)
        # A sample's weight in the mean of its class. They add up to 1, or to the class's mass where that is below 1.
        part = mass[column].reciprocal() if hard and alone else share[:, None] / mass.clamp(min=1)[column]
        if not can_branch:
            part = torch.where(usable, part, 0)
        gain, slope, keep = self._gains(mass, live)
        kept = self._take(label, rows * (part * per_sample(gain, column)), keep)
        if self.gradient == "class":
            slope = (slope > 0) / self._chance(mass, live)
        sigma, u, v = self._search(kept, can_branch)
        if self.offset is not None:
            self.offset += sigma * (self.offset_rate * self.num_classes) * live * (u.square() - v.square())
        if can_branch:
            self.skipped_in_a_row.zero_()
        else:
            sigma, v = torch.where(usable, sigma, self.spectral_norm), torch.where(usable, v, self.direction)
            self.skipped_steps += fault.isnan()
            self.skipped_in_a_row.copy_((self.skipped_in_a_row + fault.isnan()) * (1 - live))
            self.wrong_batches += fault > 0
        self.spectral_norm.copy_(sigma)
        self.direction.copy_(v)
        sigma = sigma if can_branch else sigma * live
        # d sigma = u^T d(Lambda C^_t) v, and of C^_t only this rank's contributions are not constants. DDP divides
        # gradients by the world size.
        scale = (self.row_weight * u)[own] * (part if alone else part[mine])
        scale *= per_sample(slope, own) * (self.weight * world_size())
        gradient = cf.contributions_gradient(gate, rival, mine_rows, own, v, scale, self.surrogate)
        return sigma, gradient if hard else cf.add_rows_(torch.zeros_like(logits), cast(Tensor, sample), gradient)

    def _gains(self, mass: Tensor, live: int | Tensor) -> tuple[Number, Number, Number]:
        """gain, slope and keep of C^_t = keep C^_{t-1} + gain C~_t; slope is the part of gain that has a gradient.

        Each is a number or a tensor (1,), or (C,) with ``absent="hold"``. Counts the batch in ``updates``.
        """
        hold = self.absent == "hold"
        gain: Number = 1 - self.beta
        slope = gain
        if self.debias or self.surrogate == "released":
            step = (self.updates if hold else self.updates[:1]) + 1
            if self.debias:  # a running mean with this gain is C^_t / (1 - beta^t)
                gain = slope = gain / (1 - self.beta ** step.to(mass.dtype))
            if self.surrogate == "released":  # the first batch replaces C^_0, as a constant
                first = (step == 1).to(mass.dtype)
                gain, slope = gain + (1 - gain) * first, gain * (1 - first)
        self.updates += (mass > 0) * live if hold else live
        # In the buffers' type: a number times a tensor of integers has the default one, which may be bfloat16.
        on = live.to(mass.dtype) if isinstance(live, Tensor) else live
        return gain, slope, 1 - gain * (mass.clamp(max=1) * on if hold else on)

    def _take(self, label: Tensor, change: Tensor, keep: Number) -> Number:
        """Put the batch's rows into the EMA. Returns the least share that an old row has kept."""
        if self.absent == "hold":
            assert isinstance(keep, Tensor)
            self.confusion.index_copy_(0, label, self.confusion.index_select(0, label) * keep[label, None])
        else:
            cf.scale_rows_(self.confusion, keep, self.row_norm)
        cf.add_rows_(self.confusion, label, change)
        if self.row_norm is not None:
            self.row_norm[label] = torch.linalg.vector_norm(self.confusion.index_select(0, label), dim=1)
        return keep.min() if isinstance(keep, Tensor) else keep

    def _chance(self, mass: Tensor, live: int | Tensor) -> Tensor:
        """The chance that a batch holds each class, from the batches before this one, which is then counted: (C,)."""
        assert self.seen is not None
        by_image = -torch.expm1(mass.sum() * torch.log1p(-self.frequency))
        chance = (PRIOR_BATCHES * by_image + self.seen[:-1]) / (PRIOR_BATCHES + self.seen[-1])
        self.seen[:-1] += mass.clamp(max=1) * live
        self.seen[-1] += live
        return chance.clamp(min=torch.finfo(chance.dtype).tiny)  # 0 for a batch without labels, which is left out

    def _search(self, kept: Number, wait: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Leading triplet of Lambda C^_t, from the last direction and a little of everything: as no entry of the matrix
        is negative, neither is one of its leading vectors (Perron and Frobenius)."""
        start = self.direction + self.num_classes**-0.5
        rows = None
        if self.row_norm is not None and wait:
            # Entries are not negative, so C^_t >= kept C^_{t-1} in each, and so in norm.
            rows = spectral.active_rows(self.row_weight * self.row_norm, floor=kept * self.spectral_norm)
        found = spectral.leading_triplet(self.confusion, self.row_weight, start, rows, wait=wait)
        self.search_error = found.error
        return found.sigma, found.u, found.v

    def check(self) -> None:
        """Raise if a batch since the last check had a label outside [0, C), or if the last ``max_skipped`` batches were
        not finite. Waits for the device once."""
        wrong, in_a_row = torch.stack([self.wrong_batches, self.skipped_in_a_row]).tolist()
        if wrong:
            self.wrong_batches.zero_()
            raise CarltError(f"targets of {wrong} of the last batches were out of range; {self._expected()}")
        if in_a_row >= self.max_skipped:
            raise CarltError(
                f"logits were not finite in {in_a_row} steps in a row: training has diverged; "
                "lower the learning rate or clip gradients (CAR's max_skipped sets how long to wait)"
            )

    def _skip(self, targets: Tensor, fault: float) -> Tensor:
        """Zero for a batch that was left out. Raises where silence would hide a mistake."""
        if fault > 0:
            low, high = (x.item() for x in targets.aminmax())
            raise CarltError(f"targets (of this process) run from {low} to {high}; {self._expected()}")
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        self.check()
        return torch.zeros_like(self.spectral_norm)

    def _expected(self) -> str:
        return f"labels are in [0, {self.num_classes}), as many as class_counts has, and soft labels finite and >= 0"

    def extra_repr(self) -> str:
        return (
            f"classes={self.num_classes}, weight={self.weight}, beta={self.beta}, r0={self.r0}, "
            f"frequency_weight={self.frequency_weight}, margin={self.margin}, class_margin={self.class_margin}, "
            f"surrogate={self.surrogate!r}, absent={self.absent!r}, gradient={self.gradient!r}, debias={self.debias}, "
            f"offset_rate={self.offset_rate}"
        )

    @torch.no_grad()
    def true_confusion(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """The surrogate confusion of a whole set under fixed weights, which ``confusion`` estimates: (C, C).

        With torch.distributed every rank must call it, and the set is that of all ranks.

        Args:
            batches: (logits (N, C), targets) of all batches, from a model in eval mode.
        """
        sums, mass = torch.zeros_like(self.confusion), torch.zeros_like(self.row_weight)
        for logits, targets in batches:
            cf.accumulate_confusion_(sums, mass, logits, targets, self._margin(), self.surrogate)
        sum_over_ranks(sums, mass)
        return cf.mean_confusion(sums, mass)


def per_sample(gain: Number, column: Tensor) -> Number:
    """Each sample's gain (P, 1), or the number that all have."""
    return gain[column] if isinstance(gain, Tensor) and gain.numel() > 1 else gain
