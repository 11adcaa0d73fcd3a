"""The errors a user can cause: one class, so that every command can print them as a plain line."""

import math


class CarltError(ValueError):
    """A mistake of the user or of their data: names the value, the place and the remedy."""


def at_least(minimum: float, **values: float) -> None:
    """CarltError unless every value is finite and at least ``minimum``."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= minimum):
            raise CarltError(f"{name}={value} is out of range: it is at least {minimum:g}")
