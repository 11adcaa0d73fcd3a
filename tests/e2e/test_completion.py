"""A shell's completion of the commands: by argcomplete, in a real bash, and the words it offers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carlt.commands import prepare
from carlt.commands.completion import complete_override, shell_script
from carlt.config.compose import options
from carlt.errors import CarltError


def offered(word: str, *before: str) -> list[str]:
    return list(complete_override(word, before))


def test_groups_parts_and_keys() -> None:
    assert offered("re") == ["recipe.", "recipe=", "reg.", "reg=", "resume="]
    assert {"preset=", "stage=", "seed=", "data.", "hydra.run.dir="} <= set(offered(""))


@pytest.mark.parametrize("group", ["data", "loss", "preset", "sweep"])
def test_options_of_a_group(group: str) -> None:
    assert offered(f"{group}=") == [f"{group}={name}" for name in options(group)]
    assert offered("preset=main/cifar100_lt_ca") == [
        "preset=main/cifar100_lt_car",
        "preset=main/cifar100_lt_car_concutmix",
    ]


def test_constructor_parameters_of_the_chosen_part() -> None:
    assert offered("reg.s") == ["reg.surrogate="]
    assert offered("reg.w", "reg=confidence_penalty", "seed=3") == ["reg.weight="]
    assert "reg.beta=" not in offered("reg.", "reg=confidence_penalty")
    assert offered("loss.max", "loss=ldam") == ["loss.max_margin="]
    assert offered("loss.max", "loss=wrong") == []
    assert offered("callbacks.checkpoints.m") == ["callbacks.checkpoints.monitor="]
    assert not [word for word in offered("model.") if "num_classes" in word or "_target_" in word]


def test_values_that_are_few() -> None:
    assert offered("reg.surrogate=") == ["reg.surrogate=paper", "reg.surrogate=released"]
    assert offered("data.in_memory=", "data=image_folder") == ["data.in_memory=true", "data.in_memory=false"]
    assert offered("optim.ema_decay=") == ["optim.ema_decay=null"]
    assert offered("data.root=", "data=image_folder") == []  # the shell completes files


def test_the_words_of_another_command() -> None:
    parser = prepare.parser()
    assert list(parser._complete("ver", [])) == ["verify="]
    assert list(parser._complete("verify=", [])) == ["verify=lists", "verify=files", "verify=full"]
    assert list(parser._complete("data=cif", [])) == ["data=cifar100_lt", "data=cifar10_lt"]


def test_without_argcomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    with pytest.raises(CarltError, match=r"pip install 'carlt\[completion\]'"):
        shell_script()


def test_in_a_real_bash(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    (tmp_path / "completion").write_text(shell_script())
    lines = ["-m seed=0,1 reg=car reg.sur", "loss=balan"]
    # What readline does: words are cut at = and :, and the function fills COMPREPLY.
    ask = """
    complete() { :; }; compopt() { :; }; source ./completion
    for line in "$@"; do
        COMP_LINE="python -m carlt.train $line"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; COMP_KEY=9; COMPREPLY=()
        COMP_WORDS=(python -m carlt.train ${line//=/ = }); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _python_argcomplete_global python "${COMP_WORDS[COMP_CWORD]}" ""
        echo "${COMPREPLY[*]}"
    done
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", ask, "bash", *lines],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout.splitlines(), done.stderr) == (["reg.surrogate=", "balanced_softmax"], "")
