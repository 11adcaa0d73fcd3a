"""A class under test with the values to build it with, and how checks are run on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from carlt.ranges import parameters

COUNTS = (500, 40, 7, 1)
"""Training images of each class."""
N, C = 6, len(COUNTS)


@dataclass(frozen=True)
class Part:
    """A class, or a function that builds an object, and values for it."""

    kind: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, **context: Any) -> Any:
        """The object, from its values and what it accepts of ``context``, as a run builds it."""
        accepted = {name: value for name, value in context.items() if self.takes(name)}
        return self.kind(**{**accepted, **self.options})

    def takes(self, name: str) -> bool:
        """Whether its constructor has a parameter of this name."""
        return name in parameters(self.kind)

    def is_a(self, base: type) -> bool:
        """Whether it is a subclass of ``base``; a function is none."""
        return isinstance(self.kind, type) and issubclass(self.kind, base)

    def having(self, **options: Any) -> "Part":
        """The same with other values."""
        return Part(self.kind, {**self.options, **options})

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.kind.__name__}({values})"


Check = Callable[..., None]
"""A promise, which its docstring says, as a function of a part."""


def run(checks: Sequence[Check], part: Part, *more: Any) -> None:
    """Run ``checks``; the first that fails is an ``AssertionError`` with the part, the promise and the reason."""
    for check in checks:
        try:
            check(part, *more)
        except Exception as error:
            promise = (check.__doc__ or check.__name__).strip().splitlines()[0].removesuffix(".")
            raise AssertionError(f"{part}: not true: {promise}. {type(error).__name__}: {error}") from error


def require(condition: object, message: str) -> None:
    """AssertionError unless ``condition`` holds; also with ``python -O``."""
    if not condition:
        raise AssertionError(message)


def same(actual: Any, expected: Any, what: str, **tolerance: Any) -> None:
    """AssertionError, which begins with ``what``, unless both are the same up to rounding."""
    torch.testing.assert_close(actual, expected, msg=lambda text: f"{what}: {text}", **tolerance)


def logits() -> Tensor:
    """(N, C), float64, with gradient; the same in each call."""
    generator = torch.Generator().manual_seed(0)
    return (0.2 * torch.randn(N, C, generator=generator, dtype=torch.float64)).requires_grad_()


def labels() -> Tensor:
    """int64 (N,)."""
    return torch.tensor([0, 1, 2, 3, 3, 0])


def one_hot_labels() -> Tensor:
    """The same as soft labels (N, C)."""
    return one_hot(labels(), C).double()


def gradient(module: Any, logits: Tensor, targets: Tensor) -> Tensor:
    """That of ``module(logits, targets)``, (N, C)."""
    return torch.autograd.grad(module(logits, targets), logits)[0]
