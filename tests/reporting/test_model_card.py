"""The model card of a run: what it says of data, recipe, classes and limits."""

from pathlib import Path
from typing import Any

from carlt.reporting.model_card import model_card
from carlt.runs.reading import read_run
from carlt.runs.record import write_per_class

FACTS: dict[str, Any] = {
    "input": {"shape": ["N", 3, 64, 64], "shorter_side": 72, "view": {}},
    "class_names": ["a", "b", "c"],
    "run_hash": "0123456789abcdef",
    "tau": None,
    "class_offsets": None,
    "output": {"adjusted": False},
}


def lines(folder: Path, which: str = "last") -> list[str]:
    return model_card(read_run(folder), FACTS, which, ["network.onnx"]).splitlines()


def test_limits_name_the_classes(make_run: Any) -> None:
    names = ["gull|<b>", "grebe", "heron"]
    folder = make_run("run", accuracy=0.5, metrics={"test/few": 0.125})
    write_per_class(folder, names, [200, 20, 2], [10, 30, 0], [0, 25, 0])
    found = lines(folder)
    assert "- 1 class has no test image, so the accuracy is unknown: heron." in found
    assert r"- 1 class has no right answer in the test of the last epoch: gull\|&lt;b>." in found
    assert r"- 1 class has fewer than 20 test images, so the accuracy is a rough estimate: gull\|&lt;b>." in found
    assert "- 1 class has fewer than 20 training images, and a mean accuracy of 12.5 %: heron." in found
    assert r"| gull\|&lt;b> | 200 | many | 10 | 0.0 |" in found
    assert "| heron | 2 | few | 0 | - |" in found


def test_it_says_which_epoch_the_numbers_are_of(make_run: Any) -> None:
    best = {"epoch": 0, "chosen_by": "val/accuracy on the TEST split", "chosen_on_test": True,
            "metrics": {"test/accuracy": 0.75}}  # fmt: skip
    folder = make_run("run", accuracy=0.5, best=best)
    assert "| overall | 50.0 |" in lines(folder)
    found = lines(folder, "best")
    assert "| overall | 75.0 |" in found
    assert "On the test split, of the best epoch (1, by val/accuracy on the TEST split):" in found
    assert "- The epoch was chosen on the test split, so its numbers are too high." in found
    assert "These are the accuracies of the last epoch, not of the exported one." in found


def test_input_and_recipe(make_run: Any) -> None:
    folder = make_run("run", reg="car", weight=0.5, config={"loss": {"_target_": "x", "gamma": 2.0}})
    text = "\n".join(lines(folder))
    assert "uint8 (N, 3, 64, 64), upright RGB; scale the shorter side to 72 pixels" in text
    assert "| loss | ce | `gamma=2.0` |" in text
    assert "| reg | car | `weight=0.5` |" in text
    assert str(folder) not in text  # no path of this machine
