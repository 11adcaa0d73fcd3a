"""How a node of the config becomes an object."""

import typing
from typing import Any

from omegaconf import DictConfig, OmegaConf

from carlt.config.targets import locate, parameters_of
from carlt.errors import CarltError, first_line
from carlt.runs.faults import is_out_of_memory


def build(config: DictConfig, place: str, /, **context: Any) -> Any:
    """Call the ``_target_`` of the node at ``place``: its values as plain Python, and what it accepts of ``context``.
    Values that have a ``_target_`` themselves are built first, from the same ``context``.

    Raises:
        CarltError: the constructor refused its values; the message names the node and the reason.
    """
    node = OmegaConf.select(config, place)
    if node is None:
        raise CarltError(f"{place} is null, and this run needs it: leave {place}=null out")
    values = plain_values(node)
    target = values.pop("_target_")
    for name, value in values.items():
        if isinstance(value, dict) and "_target_" in value:
            values[name] = build(config, f"{place}.{name}", **context)
    accepted = {name: value for name, value in context.items() if name in parameters_of(target) and name not in values}
    try:
        return locate(target)(**values, **accepted)
    except CarltError as error:
        raise CarltError(str(error) if place in str(error) else f"{place}: {error}") from None
    except Exception as error:
        # Libraries refuse values in many ways; Lightning's own class is no ValueError.
        refused = isinstance(error, TypeError | ValueError | ImportError | OverflowError | RuntimeError | MemoryError)
        if refused or type(error).__name__ == "MisconfigurationException":
            too_large = "too large for this machine's memory; lower its sizes"
            reason = too_large if is_out_of_memory(error) else first_line(error)
            raise CarltError(f"{place} ({target}): {reason}") from error
        raise


def part_class(config: DictConfig, place: str) -> Any:
    """The class or function that the node at ``place`` names."""
    return locate(str(OmegaConf.select(config, place)["_target_"]))


def plain_values(node: DictConfig) -> dict[str, Any]:
    """A node as plain Python, interpolations resolved."""
    return typing.cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
