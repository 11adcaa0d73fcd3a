"""Ranges of constructor arguments: one annotation, checked in configs and in calls, all problems at once."""

from typing import Annotated, Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from carlt.config.compose import conf_dir
from carlt.config.schema import INJECTED, node_problems
from carlt.config.targets import locate, settable
from carlt.errors import CarltError
from carlt.ranges import Range, checked, describe_type, matches

PARTS = sorted(
    {
        target
        for path in conf_dir().rglob("*.yaml")
        for line in path.read_text().splitlines()
        if (target := line.partition("_target_:")[2].partition("#")[0].strip()).startswith(("carlt.", "lightning."))
        if not target.startswith("carlt.sweeps")
    }
)


def out_of_range(target: str) -> dict[str, Any]:
    """A value outside each range among the parameters of ``target``."""
    found: dict[str, Any] = {}
    for name, parameter in settable(target).items():
        kind = parameter.annotation
        options = getattr(kind, "__args__", ()) if getattr(kind, "__metadata__", None) is None else (kind,)
        ranges = [extra for option in options for extra in getattr(option, "__metadata__", ())]
        if name not in INJECTED and any(isinstance(extra, Range) and extra.low > -np.inf for extra in ranges):
            found[name] = -2  # below every range
    return found


@pytest.mark.parametrize("target", [part for part in PARTS if out_of_range(part)])
def test_all_problems_of_a_part_are_reported_together(target: str) -> None:
    wrong = out_of_range(target)
    problems = list(node_problems(OmegaConf.create({"_target_": target, **wrong}), "part"))
    assert [problem.split(": expected")[0] for problem in problems if "expected" in problem] == [
        f"part.{name}=-2" for name in wrong
    ]
    if target.startswith("carlt."):
        with pytest.raises(CarltError) as error:
            locate(target)(**wrong)
        assert {line.partition("=")[0] for line in str(error.value).splitlines()} == set(wrong)


def test_most_parts_have_ranges() -> None:
    assert sum(len(out_of_range(part)) for part in PARTS) > 90


@pytest.mark.parametrize(
    ("kind", "inside", "outside", "words"),
    [
        (Annotated[float, Range(0, 1)], [0, 0.5, 1, np.float32(1)], [-0.1, 1.1, float("nan"), "1", True], " in [0, 1]"),
        (Annotated[float, Range(0, 1, "high")], [0, 0.9], [1], " in [0, 1)"),
        (Annotated[float, Range(0, 1, "low")], [1], [0], " in (0, 1]"),
        (Annotated[float, Range(0, 1, "both")], [0.5], [0, 1], " in (0, 1)"),
        (Annotated[float, Range(0, without="low")], [1e30], [0, float("inf")], ", more than 0"),
        (Annotated[float, Range(high=1)], [-1e30, 1], [2], ", at most 1"),
        (Annotated[float, Range()], [-1e30], [float("inf"), float("nan")], ""),
    ],
)
def test_a_range(kind: Any, inside: list, outside: list, words: str) -> None:
    assert all(matches(value, kind) for value in inside)
    assert not any(matches(value, kind) for value in outside)
    assert describe_type(kind) == "a finite number" + words


def test_a_subclass_of_ones_own_keeps_the_checks_of_its_base() -> None:
    from carlt.losses import Focal

    class Mine(Focal):
        def __init__(self, class_counts: list[int], drw_start: float = 0.5, **options: Any):
            super().__init__(class_counts, drw_start=drw_start, **options)

    with pytest.raises(CarltError, match=r"drw_start=3: .*") as error:
        Mine([2, 1], drw_start=3, gamma=-1)
    assert "gamma=-1" in str(error.value)
    assert Mine([2, 1], gamma=1.0)(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)) > 0


def test_a_wrong_call_is_python_s_own_error() -> None:
    @checked
    def function(share: Annotated[float, Range(0, 1)]) -> float:
        return share

    assert function(0.5) == 0.5
    with pytest.raises(TypeError, match="unexpected keyword"):
        function(0.5, other=3)  # type: ignore[call-arg]
