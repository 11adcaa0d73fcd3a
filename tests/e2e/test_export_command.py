"""``carlt.export`` as a command: the file, its facts and its model card."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.conftest import Command
from tests.runs.test_locks import another_process_in

from carlt.evaluation.evaluate import evaluate_posthoc


@pytest.fixture
def export(command: Command) -> Command:
    """``export(*words)``: the command."""
    return partial(command, "export")


def test_the_folder_of_an_export(export: Command, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = export(f"run={finished}", "format=safetensors", f"out={out}")
    assert code == 0
    assert "network.safetensors: logits within" in said
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "network.json", "network.safetensors"]
    facts = json.loads((out / "network.json").read_text())
    assert len(facts["class_names"]) == 10
    card = (out / "MODEL_CARD.md").read_text()
    for text in ("# small_cnn on digits_lt", "imbalance factor 52", "| reg | car |", "| digit 9 | 2 | few | 50 |"):
        assert text in card
    assert "`network.safetensors`" in card


def test_a_card_that_was_changed_by_hand_is_kept(export: Command, finished: Path, tmp_path: Path) -> None:
    words = (f"run={finished}", f"out={tmp_path}")
    export(*words, "format=safetensors")
    card = tmp_path / "MODEL_CARD.md"
    assert export(*words, "format=torch_export")[0] == 0
    assert "`network.pt2`" in card.read_text()
    card.write_text("mine")
    for _ in range(2):
        code, said, _ = export(*words, "format=safetensors")
        assert (code, card.read_text()) == (0, "mine")
        assert "MODEL_CARD.md (kept as it is" in said


def test_another_checkpoint_needs_another_folder(export: Command, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert export(f"run={run}", "format=safetensors")[0] == 0
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)
    last["state_dict"]["mean"] += 1
    torch.save(last, run / "checkpoints" / "other.ckpt")
    before = {path: path.read_bytes() for path in (run / "export").iterdir()}
    words = (f"run={run}", "format=safetensors", f"which={run}/checkpoints/other.ckpt")
    code, _, message = export(*words)
    assert code == 2
    assert "holds the export of another checkpoint; choose another out=<folder>" in message
    assert {path: path.read_bytes() for path in (run / "export").iterdir()} == before
    assert export(*words, f"out={tmp_path}/other")[0] == 0
    assert "whose accuracy was not recorded" in (tmp_path / "other" / "MODEL_CARD.md").read_text()


def test_adjusted_logits_need_a_record_and_a_folder(export: Command, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    words = (f"run={run}", "format=torch_export")
    code, _, message = export(*words, "adjusted=true")
    assert code == 2
    assert f"{run} has no adjustment on record for last.ckpt; leave out which=, as only the last" in message
    assert f"run first: python -m carlt.evaluate run={run} posthoc=car" in message
    evaluate_posthoc(run, "car", overrides=["data.val_per_class=1"])
    assert export(*words)[0] == 0
    assert "holds an export with adjusted=false; choose another out=" in export(*words, "adjusted=true")[2]
    assert export(*words, "adjusted=true", f"out={tmp_path}/out")[0] == 0
    assert "The logits have the adjustment for rare classes" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_a_network_of_another_program_is_not_overwritten(export: Command, finished: Path, tmp_path: Path) -> None:
    mine = tmp_path / "network.safetensors"
    mine.write_text("mine")
    words = (f"run={finished}", f"out={tmp_path}")
    code, _, message = export(*words, "format=safetensors")
    assert code == 2
    assert f"{mine} is not of carlt.export: no network.json lies beside it; choose another out=<folder>" in message
    assert [path.name for path in tmp_path.iterdir()] == ["network.safetensors"]
    assert mine.read_text() == "mine"
    mine.unlink()
    for _ in range(2):  # its own it does overwrite
        assert export(*words, "format=safetensors")[0] == 0


def test_of_two_exports_into_one_folder_the_second_is_one_line(export: Command, finished: Path, tmp_path: Path) -> None:
    with another_process_in(tmp_path):
        code, _, message = export(f"run={finished}", "format=safetensors", f"out={tmp_path}")
    assert code == 2
    assert f"another process uses {tmp_path}; wait until it ends, or choose another out=<folder>" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["format=onnx"], "run=<run folder> is missing"),
        (["run={run}"], "format= is missing: choose from onnx, torch_export, safetensors"),
        (["run={run}", "format=tflite"], "format=tflite: choose from onnx, torch_export, safetensors"),
        (["run={run}", "format=onnx", "output=x"], "'output=x' is none of run=, which=, trust=, format="),
        (["run=/nowhere", "format=onnx"], "run=/nowhere does not exist"),
        (
            ["run={run}", "format=safetensors", "out={run}/config.yaml"],
            "config.yaml cannot be made (File exists); choose another out=<folder>",
        ),
    ],
)
def test_a_mistake_is_one_message(words: list[str], message: str, export: Command, finished: Path) -> None:
    before = sorted(finished.rglob("*"))
    code, said, errors = export(*(word.format(run=finished) for word in words))
    assert (code, said) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert sorted(finished.rglob("*")) == before
