"""The commands as a user types them, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Command

from carlt.commands.arguments import UNREAD
from carlt.commands.train import _parse, _with_values
from carlt.config import compose
from carlt.runs.record import read_result

SHORT = ("trainer.accelerator=cpu", "trainer.max_epochs=1", "reg=none")


def python(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with ``arguments`` in ``home``, without any login and with nobody to answer questions."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "PYTEST"))}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**clean, "HOME": str(home), **environment},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def mistake(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``mistake(*words)``: the message of ``carlt.train`` with these words, in this process; nothing may be created."""

    def run(*words: str) -> str:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        monkeypatch.chdir(home)
        code, said, errors = command("train", *words)
        assert (code, said) == (2, "")
        assert not list(home.iterdir())
        return errors

    return run


def test_all_mistakes_in_one_message(mistake: Callable[..., str]) -> None:
    lines = mistake("data=imagnet_lt", "reg.lamda=1", "optim.lr=fast", "sede=1").splitlines()
    assert lines[0].startswith("carlt.train: error: data=imagnet_lt: no such data; did you mean imagenet_lt?")
    assert [line.split()[0] for line in lines[1:]] == ["reg.lamda:", "sede:", "optim.lr='fast':"]


def test_a_mistake_in_the_data_is_one_message(mistake: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere" in mistake("data=image_folder", f"data.root={tmp_path}/nowhere", "trainer.max_epochs=1")


@pytest.fixture
def mistake_in_a_loss(mistake: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """``mistake_in_a_loss(content)``: the message of ``carlt.train`` with a loss of one's own in such a file."""

    def run(content: bytes) -> str:
        (tmp_path / "conf" / "loss").mkdir(parents=True)
        (tmp_path / "conf" / "loss" / "mine.yaml").write_bytes(content)
        monkeypatch.setattr(compose, "_user_dirs", [])
        (line,) = mistake("--config-dir", str(tmp_path / "conf"), "loss=mine").splitlines()
        return line

    return run


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\tx: 1", "mine.yaml is no YAML file"),
        (b"_target_: [", "mine.yaml is no YAML file"),
        (b"a: 1\na: 2", "an option file is no YAML file (while constructing a mapping in"),
        (b"name: \xe9", "mine.yaml is no YAML file ('utf-8' codec"),
    ],
)
def test_a_damaged_option_file_of_ones_own_is_named(
    content: bytes, message: str, mistake_in_a_loss: Callable[[bytes], str]
) -> None:
    assert message in mistake_in_a_loss(content)


def test_an_option_file_without_a_target_is_no_part_of_a_run(mistake_in_a_loss: Callable[[bytes], str]) -> None:
    assert "loss is no part of a run (a mapping with a _target_)" in mistake_in_a_loss(b"a: 1")


@pytest.mark.parametrize(
    ("name", "words", "step"),
    [
        ("evaluate", ["run={finished}"], "carlt.evaluation.evaluate.evaluate"),
        ("export", ["run={finished}", "format=safetensors", "out={tmp_path}"], "carlt.commands.export.export"),
        ("predict", ["run={finished}", "{tmp_path}"], "carlt.commands.predict.predict"),
        ("prepare", ["data=digits_lt", "out={tmp_path}"], "carlt.commands.prepare.prepare"),
        ("report", ["{finished}", "out={tmp_path}"], "carlt.commands.report.report"),
        ("train", ["reg=none", "hydra.run.dir={tmp_path}/run"], "carlt.commands.train.run"),
    ],
)
def test_an_interrupted_command_says_so(
    name: str, words: list[str], step: str, finished: Path, tmp_path: Path, command: Command, monkeypatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupt)
    code, _, errors = command(name, *(word.format(finished=finished, tmp_path=tmp_path) for word in words))
    assert (code, errors) == (130, f"carlt.{name}: interrupted\n")


def test_a_folder_that_holds_a_run_is_not_written_into(mistake: Callable[..., str], finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    message = f"{finished} holds a run: go on with it (resume={finished})"
    assert message in mistake(*SHORT, f"hydra.run.dir={finished}")
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_folder_without_a_run_cannot_be_resumed(mistake: Callable[..., str], tmp_path: Path) -> None:
    assert f"resume={tmp_path} is no run folder" in mistake(f"resume={tmp_path}")


def test_resume_takes_new_values_but_no_new_parts(mistake: Callable[..., str], finished: Path) -> None:
    message = mistake(f"resume={finished}", "model=resnet20", "trainer.max_epoch=4")
    assert "model: the parts of a finished or interrupted run are fixed" in message
    assert "did you mean max_epochs?" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+sed=1"], "sed: there is no 'sed'; did you mean seed?"),
        (["++reg.weihgt=1"], "reg.weihgt: carlt.reg.CAR takes no 'weihgt'"),
        (["~callbacks.checkpoint"], "did you mean checkpoints?"),
        (["hydra.run.dri=x"], "Could not override 'hydra.run.dri'"),
        (["optim.lr=nan"], "optim.lr=nan: expected a finite number"),
        (["optim.momentum=inf"], "optim.momentum=inf: expected a finite number"),
        (["data.subset_seed=99999999999999999999"], "expected an integer"),
        (["reg=[car,car]"], "car occurs twice"),
        (["aug=[mixup,mixup]"], "mixup occurs twice"),
        (["resume="], "resume= has no value"),
        (["trust=maybe"], "trust=maybe: expected true or false"),
        (["--config-dir", "/nowhere"], "config folder /nowhere does not exist"),
        (["--nonsense"], "there is no option --nonsense; --help"),
        (["--cfg", "foo"], "--cfg foo: choose from job, hydra, all; --help"),
        (["reg=none", "--config-dir"], "--config-dir has no value; --help"),
        (["hydra.run.dir=."], "hydra.run.dir is or holds the current folder"),
        (["trainer.accelerator=tpu"], "trainer"),
        (["init_run=x=y", "stage=crt"], "needs quotes"),
    ],
)
def test_a_mistake_is_one_message_and_creates_nothing(
    words: list[str], message: str, mistake: Callable[..., str]
) -> None:
    assert message in mistake(*words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=glob(*)"], "data: several values make a sweep; add -m"),
        (["seed=0,1"], "seed: several values make a sweep; add -m"),
        (["data="], "data=: no such data; choose from"),
        (["data=[digits_lt,cifar10_lt]"], "data=[digits_lt,cifar10_lt]: only aug, logger, reg take several"),
        (["-m", "--cfg", "job", "seed=0,1"], "--cfg shows the config of one run"),
        (["resume={finished}", "seed=0,1"], "seed: several values make a sweep"),
        (["-m", "resume={finished}"], "resume= goes on with one run: leave -m out"),
    ],
)
def test_a_mistake_in_what_makes_a_sweep_is_one_line(
    arguments: list[str], message: str, finished: Path, command: Command
) -> None:
    code, _, errors = command("train", *(text.format(finished=finished) for text in arguments))
    assert code == 2
    (line,) = errors.splitlines()
    assert line.startswith(f"carlt.train: error: {message}")


def test_flags_may_stand_between_overrides() -> None:
    arguments = _parse(["reg=none", "-m", "seed=0,1", "--config-dir", str(compose.conf_dir()), "optim.lr=1"])
    assert (arguments.multirun, arguments.overrides) == (True, ["reg=none", "seed=0,1", "optim.lr=1"])
    arguments = _parse(["reg=none", "--info"])
    assert (arguments.info, arguments.overrides, arguments.information) == ("all", ["reg=none"], True)


def test_the_value_of_info_may_be_left_out_anywhere() -> None:
    assert _with_values(["--info", "data=x"]) == ["--info=all", "data=x"]
    assert _with_values(["data=x", "-i", "plugins", "-m"]) == ["data=x", "--info=plugins", "-m"]
    assert _with_values(["data=x", "--info"]) == ["data=x", "--info=all"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out="], "out= has no value; --help"),
        (["--out"], "out= has no value; --help"),
        (["published=maybe"], "published=maybe: choose from true, false; --help"),
        (["--nonsense"], "there is no option --nonsense; --help"),
    ],
)
def test_the_other_commands_tell_a_mistake_in_the_same_form(words: list[str], message: str, command: Command) -> None:
    code, _, errors = command("report", *words)
    assert code == 2
    assert errors.startswith(f"carlt.report: error: {message}")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_output_that_finds_no_room_is_one_line(tmp_path: Path) -> None:
    program = "from carlt.commands.arguments import command\nwith command('x'):\n  print('x\\n' * 100_000)"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, cwd=tmp_path
        )
    said = "x: error: the output cannot be written (No space left on device); send it to another place\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_a_command_without_output_is_none(tmp_path: Path) -> None:
    program = "from carlt.commands.arguments import command\nwith command('x'):\n  print('x')"
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{program}" >&-'], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_nobody_reads_on_is_no_error(tmp_path: Path) -> None:
    program = "from carlt.commands.arguments import command\nwith command('x'):\n  print('x\\n' * 100_000)"
    shell = f'{sys.executable} -c "{program}" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (UNREAD, "")


def test_a_letter_that_the_terminal_lacks_ends_no_command(tmp_path: Path) -> None:
    program = "from carlt.commands.arguments import command\nwith command('x'):\n  print('\u2588 \\udce9')"
    done = python("-c", program, home=tmp_path, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\u2588 \\udce9\n", "")


def test_help_shows_groups_and_keys_without_loading_torch(tmp_path: Path) -> None:
    done = python("-X", "importtime", "-m", "carlt.train", "--help", home=tmp_path)
    assert done.returncode == 0
    groups = ("data: ", "model: ", "aug: ", "loss: ", "reg: ", "sampler: ", "optim: ", "logger: ")
    assert all(group in done.stdout for group in groups)
    assert all(
        key in done.stdout for key in ("seed=", "trainer.max_epochs=", "data.root=", "resume=", "hydra.run.dir=")
    )
    assert " torch\n" not in done.stderr
    assert "main/{cifar100_lt, imagenet_lt" in done.stdout


@pytest.mark.parametrize("name", ["predict", "export"])
def test_help_of_a_command_loads_no_torch(name: str, tmp_path: Path) -> None:
    done = python("-X", "importtime", "-m", f"carlt.{name}", "--help", home=tmp_path)
    assert done.returncode == 0
    assert f"python -m carlt.{name} run=<run folder>" in done.stdout
    assert " torch\n" not in done.stderr


def test_a_wrong_group_is_told_without_loading_torch(tmp_path: Path) -> None:
    done = python("-X", "importtime", "-m", "carlt.train", "data=imagnet_lt", home=tmp_path)
    assert done.returncode == 2
    assert " torch\n" not in done.stderr


def test_reporting_needs_no_torch(tmp_path: Path) -> None:
    modules = "carlt.reporting.plots, carlt.runs.record, carlt.reporting.table"
    program = f"import sys, {modules}; print('torch' in sys.modules)"
    assert python("-c", program, home=tmp_path).stdout == "False\n"


def test_a_loss_of_the_users_own_folder_and_module(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, no_plots: None
) -> None:
    (tmp_path / "mine_lt.py").write_text(
        "import torch\n"
        "class MyLoss(torch.nn.Module):\n"
        "    def __init__(self, class_counts, power: float = 1.0):\n"
        "        super().__init__()\n"
        "        self.power = power\n"
        "    def forward(self, logits, targets):\n"
        "        return self.power * torch.nn.functional.cross_entropy(logits, targets)\n"
    )
    folder = tmp_path / "conf" / "loss"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: mine_lt.MyLoss\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(compose, "_user_dirs", [])
    words = ["--config-dir", str(tmp_path / "conf"), "loss=mine", "reg=none", *SHORT[:2]]
    assert "mine_lt.MyLoss takes no 'pwer'; did you mean power?" in command("train", *words, "loss.pwer=2")[2]
    assert command("train", *words, f"hydra.run.dir={tmp_path}/run", "loss.power=2")[0] == 0
    assert read_result(tmp_path / "run")["epochs"] == 1
