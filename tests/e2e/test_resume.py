"""A run that was killed and resumed ends as if nothing had happened."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from carlt.commands import run as run_module
from carlt.commands.run import compose_run, train
from carlt.config.stored import load_config
from carlt.errors import CarltError
from carlt.reporting.groups import drop_repeats, group_by_data_set
from carlt.runs import paths
from carlt.runs.config_file import read_config
from carlt.runs.hash import run_hash
from carlt.runs.reading import read_runs
from carlt.runs.record import read_result
from carlt.training import compute
from carlt.training.callbacks import Progress, read_rows

pytestmark = pytest.mark.usefixtures("no_plots")

# 10 steps with checkpoints inside each epoch.
SHORT = ("trainer.max_epochs=2", "callbacks.checkpoints.every_n_steps=3")
# Networks and mixing that draw at random in every step; batch norm and SGD in one, drop path and AdamW in the other.
KINDS = {
    "cnn": ("reg=car", "aug=concutmix", "++aug.relabel.start=0"),  # running class means
    "momentum": ("model.width=8", "loss=paco", "loss.queue=100", "aug=mixup"),  # an encoder and a queue of its own
    "two batches": ("loss=glmc", "reg=car", "optim.ema_decay=0.5"),  # and a running mean of the weights
    "vit": ("model=timm", "model.name=test_vit", "model.drop_path_rate=0.3", "family=vit", "sampler=class_balanced"),
}


def end_state(folder: Path) -> dict[str, Any]:
    """Everything a finished run leaves that does not depend on the clock or on where it lies."""
    last = torch.load(paths.checkpoint(folder, "last"), weights_only=True)
    best = torch.load(paths.checkpoint(folder, "best"), weights_only=True)
    result = read_result(folder)
    rows = read_rows(folder / paths.METRICS)
    for numbers in (*rows, result["metrics"]):
        numbers.pop("car/time_share", None)
    return {
        "network and regularizer": last["state_dict"],
        "optimizer": last["optimizer_states"],
        "schedule": last["lr_schedulers"],
        "step": last["global_step"],
        "logged step": last["loops"]["fit_loop"]["epoch_loop.state_dict"],
        "best": {key: best[key] for key in ("state_dict", "epoch", "global_step")},
        "result": {key: result[key] for key in ("metrics", "best", "worst_class", "epochs")},
        "metrics.csv": rows,
        "per_class.csv": (folder / paths.PER_CLASS).read_text(),
    }


def differences(a: Any, b: Any, place: str = "") -> list[str]:
    """Where two end states differ; empty if they are equal to the last bit."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in differences(a[key], b[key], f"{place}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [found for i, pair in enumerate(zip(a, b, strict=True)) for found in differences(*pair, f"{place}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [place]
    return [] if a == b else [f"{place}: {a} != {b}"]


@pytest.mark.parametrize(
    "kind", ["cnn", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("momentum", "two batches", "vit"))]
)
def test_a_kill_at_any_moment_changes_nothing(kind: str, run, resume, tmp_path: Path) -> None:
    # A kill is seen only in the files it leaves. Every file is written beside its place and then moved there, so the
    # folder as it is before each move is all that a kill can leave.
    whole, kills = tmp_path / "whole", []
    move = Path.replace

    def copy_then_move(file: Path, target: Path) -> Path:
        if (whole / paths.CONFIG).exists():
            kills.append(tmp_path / f"{len(kills)}_before_{target.name}")
            shutil.copytree(whole, kills[-1])
        return move(file, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", copy_then_move)
        run(whole, *KINDS[kind], *SHORT)

    # After steps 3, 5, 6, 9 and 10; best.ckpt is written after 5, and after 10 if that epoch is better.
    assert sum(kill.name.endswith("last.ckpt") for kill in kills) == 5
    expected = end_state(whole)
    for kill in kills:
        resume(kill)
        assert differences(expected, end_state(kill)) == [], kill.name


@pytest.fixture(scope="module")
def uninterrupted(run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The end state that interrupted runs must reach."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    run(folder, *KINDS["cnn"], *SHORT)
    return end_state(folder)


@contextmanager
def terminate_at(hook: str, nth: int, number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """This process gets a signal the ``nth`` time that a run comes to ``hook``."""
    calls = itertools.count(1)

    def terminate(*_: Any) -> None:
        if next(calls) == nth:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, hook, terminate)  # the progress bar's hooks change nothing in a run
        yield


@pytest.mark.parametrize(
    ("hook", "nth", "saved"),
    [
        pytest.param("on_train_batch_end", 1, 1, marks=pytest.mark.slow),
        ("on_train_batch_start", 4, 4),
        pytest.param("on_train_batch_end", 5, 5, marks=pytest.mark.slow),  # the last batch of the first epoch
        ("on_validation_batch_start", 1, 5),
        pytest.param("on_train_epoch_end", 1, 5, marks=pytest.mark.slow),
        pytest.param("on_train_batch_end", 7, 7, marks=pytest.mark.slow),
    ],
)
def test_sigterm_saves_and_the_resumed_run_ends_alike(
    hook: str, nth: int, saved: int, run, resume, uninterrupted, tmp_path: Path, capsys
) -> None:
    with terminate_at(hook, nth), pytest.raises(SystemExit) as end:
        run(tmp_path / "run", *KINDS["cnn"], *SHORT)
    assert end.value.code == 143
    assert f"resume={tmp_path / 'run'}" in capsys.readouterr().err
    assert torch.load(paths.checkpoint(tmp_path / "run", "last"), weights_only=True)["global_step"] == saved
    resume(tmp_path / "run")
    assert differences(uninterrupted, end_state(tmp_path / "run")) == []


@pytest.mark.parametrize(
    ("nth", "batches"), [(3, 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((4, 4), (8, 7)))]
)
def test_accumulated_gradients_are_not_lost(nth: int, batches: int, run, resume, tmp_path: Path) -> None:
    """Of 5 batches an epoch, two to a step: batches 3 and 8 wait for the next one, so the file before stays."""
    options = ("reg=car", "trainer.accumulate_grad_batches=2", "trainer.max_epochs=2")
    options += ("callbacks.checkpoints.every_n_steps=1",)
    run(tmp_path / "whole", *options)
    with terminate_at("on_train_batch_end", nth), pytest.raises(SystemExit):
        run(tmp_path / "run", *options)
    saved = torch.load(paths.checkpoint(tmp_path / "run", "last"), weights_only=True)
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] == batches
    resume(tmp_path / "run")
    assert differences(end_state(tmp_path / "whole"), end_state(tmp_path / "run")) == []


@pytest.mark.slow
def test_an_epoch_without_validation_has_no_numbers_of_it(run, resume, tmp_path: Path) -> None:
    options = ("reg=none", "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2")
    run(tmp_path / "whole", *options)
    rows = read_rows(tmp_path / "whole" / paths.METRICS)
    assert ["val/accuracy" in row for row in rows] == [False, True, False, True]
    with terminate_at("on_train_batch_start", 13), pytest.raises(SystemExit):
        run(tmp_path / "run", *options)
    resume(tmp_path / "run")
    assert read_rows(tmp_path / "run" / paths.METRICS) == rows


@pytest.mark.slow
def test_a_longer_training_has_its_own_rate_from_the_first_step_on(run, resume, tmp_path: Path) -> None:
    def rates(train: Callable, *options: str) -> list[float]:
        found: list[float] = []

        def note(progress: Any, trainer: Any, *_: Any) -> None:
            found.append(lr_of(trainer))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Progress, "on_train_batch_start", note)
            train(*options)
        return found

    run(tmp_path / "run", "reg=none", "trainer.max_epochs=2")
    longer = rates(resume, tmp_path / "run", "trainer.max_epochs=4")
    assert longer == rates(run, tmp_path / "whole", "reg=none", "trainer.max_epochs=4")[10:]


def test_on_fewer_devices_the_schedule_goes_on_at_the_share_that_is_done(run, resume, tmp_path: Path) -> None:
    """An epoch of 5 batches, two to a step, has 3 steps; the checkpoint says that it had 2, as on more devices."""
    options = ("reg=none", "trainer.accumulate_grad_batches=2", "callbacks.checkpoints.every_n_steps=2")
    folder, rates = tmp_path / "run", []
    run(folder, *options, "trainer.max_epochs=1")
    last = paths.checkpoint(folder, "last")
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["world_size"], checkpoint["lr_schedulers"][0]["last_epoch"] = 2, 2
    torch.save(checkpoint, last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_train_batch_start", lambda _, trainer, *__: rates.append(lr_of(trainer)))
        resume(folder, "trainer.max_epochs=2")
        run(tmp_path / "whole", *options, "trainer.max_epochs=2")
    assert rates[:5] == rates[10:]
    assert torch.load(last, weights_only=True)["lr_schedulers"][0]["last_epoch"] == 6


def lr_of(trainer: Any) -> float:
    return trainer.optimizers[0].param_groups[0]["lr"]


def test_within_an_epoch_the_number_of_devices_stays(run, resume, tmp_path: Path) -> None:
    with terminate_at("on_train_batch_end", 2), pytest.raises(SystemExit):
        run(tmp_path / "run", "reg=none")
    last = paths.checkpoint(tmp_path / "run", "last")
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["world_size"] == 1
    torch.save({**checkpoint, "world_size": 2}, last)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        CarltError, match=r"within an epoch on 2 device.*there are 1 now; resume with 2 until the epoch"
    ):
        resume(tmp_path / "run", "trainer.max_epochs=4")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    del checkpoint["world_size"]  # of version 0.1
    torch.save(checkpoint, last)
    assert resume(tmp_path / "run")["epochs"] == 3


def test_processes_of_torchrun_need_a_folder_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CarltError, match=r"need the same run folder, .* give hydra\.run\.dir=<folder>"):
        compose_run(["reg=none"])
    assert compose_run(["reg=none", "hydra.run.dir=runs/x"])[2]
    monkeypatch.setattr(run_module, "run", lambda config, folder, **_: {"folder": folder})
    assert train("reg=none", folder="/runs/x")["folder"] == Path("/runs/x")
    with pytest.raises(CarltError, match="need the same run folder"):
        train("reg=none")


def test_sigterm_while_the_finished_network_is_evaluated(run, resume, tmp_path: Path) -> None:
    with terminate_at("on_test_batch_start", 2), pytest.raises(SystemExit) as end:
        run(tmp_path, "reg=none", "trainer.max_epochs=1", "data.eval_batch_size=100")
    assert end.value.code == 143
    assert not (tmp_path / paths.RESULT).exists()
    (tmp_path / paths.METRICS).unlink()  # the remedy for a damaged one
    assert resume(tmp_path)["epochs"] == 1


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is the only task of the SLURM job 1234; the file to which ``scontrol`` writes what it is asked."""
    asked, stub = tmp_path / "asked", tmp_path / "bin" / "scontrol"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    for name, value in {"JOB_ID": "1234", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return asked


@pytest.mark.parametrize(
    ("hook", "nth", "saved"),
    [
        ("on_train_batch_start", 2, 2),
        # The last batch of the first epoch, which is validated first.
        pytest.param("on_train_batch_end", 5, 6, marks=pytest.mark.slow),
        pytest.param("on_train_batch_end", 10, 10, marks=pytest.mark.slow),
        pytest.param("on_test_batch_start", 1, 10, marks=pytest.mark.slow),
    ],
)
def test_a_slurm_job_that_is_about_to_end_goes_on_by_itself(
    hook: str, nth: int, saved: int, run, slurm: Path, uninterrupted, tmp_path: Path, monkeypatch, capsys
) -> None:
    folder = tmp_path / "run"
    with terminate_at(hook, nth, signal.SIGUSR1), pytest.raises(SystemExit) as end:
        run(folder, *KINDS["cnn"], *SHORT)
    assert end.value.code == 143
    assert slurm.read_text() == "requeue 1234\n"
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert torch.load(paths.checkpoint(folder, "last"), weights_only=True)["global_step"] == saved
    with pytest.raises(CarltError, match="holds a run"):
        run(folder, *KINDS["cnn"], *SHORT)  # another job with the same folder
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run(folder, *KINDS["cnn"], *SHORT)
    assert differences(uninterrupted, end_state(folder)) == []
    with pytest.raises(CarltError, match="holds a run"):
        run(folder, *KINDS["cnn"], *SHORT, "seed=1")
    capsys.readouterr()
    again = run(folder, *KINDS["cnn"], *SHORT)  # the job was stopped in a later command of its script
    assert capsys.readouterr().out == f"finished before, in {folder}\n"
    assert again == {**read_result(folder), "folder": str(folder)}


def test_a_job_keeps_what_auto_chose_at_first(run, slurm: Path, tmp_path: Path, monkeypatch) -> None:
    ms = {f"{kind}{layout}": 2.0 for kind in ("float32", "bfloat16") for layout in ("", ", channels last")}
    monkeypatch.setattr(compute, "native_bfloat16", lambda device: True)
    monkeypatch.setattr(compute, "milliseconds", lambda device: ms | {"bfloat16": 1.0})
    config, named, _ = compose_run(
        ["reg=none", "trainer.precision=auto", "trainer.max_epochs=1", "trainer.accelerator=cpu", "model.width=4"]
    )
    with terminate_at("on_train_batch_end", 2, signal.SIGUSR1), pytest.raises(SystemExit):
        run_module.run(config.copy(), tmp_path / named.name, hash_in_name=True)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr(compute, "milliseconds", lambda device: ms)
    result = run_module.run(config.copy(), tmp_path / named.name, hash_in_name=True)
    assert (result["compute"]["precision"], result["compute"]["measured_ms"]["bfloat16"]) == ("bf16-mixed", 1.0)
    (folder,) = tmp_path.glob(f"{named.name}_*")
    assert folder == Path(result["folder"])


def test_a_job_that_cannot_be_queued_again_says_so(run, slurm: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with terminate_at("on_train_batch_end", 2, signal.SIGUSR1), pytest.raises(SystemExit):
        run(tmp_path / "run", "reg=none")
    assert "scontrol requeue 1234: No such file or directory; submit the same script again" in capsys.readouterr().err


def test_a_slurm_job_s_folder_has_its_number(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1234")
    _, folder, named = compose_run(["reg=none"])
    assert folder.name == "small_cnn_ce_none_seed0_1234"
    assert not named


@pytest.mark.slow
def test_sigkill_at_a_random_moment(uninterrupted, tmp_path: Path) -> None:
    folder = tmp_path / "of a sweep, reg=car,logger=[csv]"  # Hydra names folders so
    command = [sys.executable, "-m", "carlt.train"]
    start = [*command, "trainer.accelerator=cpu", f"hydra.run.dir='{folder}'", *KINDS["cnn"], *SHORT]
    process = subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not paths.checkpoint(folder, "last").exists() and process.poll() is None:
        time.sleep(0.01)
    delay = torch.rand(()).item() / 5
    time.sleep(delay)
    process.kill()
    output, _ = process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0), output.decode()
    resumed = subprocess.run([*command, f"resume={folder}"], capture_output=True, text=True)
    assert resumed.returncode == 0, f"killed {delay} s after the first checkpoint: {resumed.stderr}"
    assert differences(uninterrupted, end_state(folder)) == [], f"killed {delay} s after the first checkpoint"


def test_a_resume_that_another_one_overtook_changes_nothing(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    config, place, content = run_module.compose_resumed(str(folder), ["trainer.max_epochs=5"])
    (folder / paths.CONFIG).write_text(content + "resumed: [{from_epoch: 3, values: {trainer.max_epochs: 4}}]\n")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(CarltError, match=r"run/config\.yaml changed meanwhile.*give the command again"):
        run_module.run(config, place, content=content)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


def test_a_finished_run_goes_on_with_more_epochs(finished: Path, resume, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    last = paths.checkpoint(folder, "last")
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["callbacks"]["TrainingTime"]["time_elapsed"]["train"] = 1000.0
    torch.save(checkpoint, last)
    result = resume(folder, "trainer.max_epochs=4")
    assert result["epochs"] == 4
    assert 1000 < result["timings"]["fit_s"] < 1500  # of both processes
    assert [row["epoch"] for row in read_rows(folder / paths.METRICS)] == [0, 1, 2, 3]


def test_a_longer_training_is_no_run_that_was_so_long_from_the_start(
    finished: Path, run, resume, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "longer"
    shutil.copytree(finished, folder)
    longer = resume(folder, "trainer.max_epochs=4", "data.num_workers=0")
    run(tmp_path / "runs" / "whole", "reg=car", "trainer.max_epochs=4")
    config = read_config(folder)
    change = {"from_epoch": 3, "values": {"trainer.max_epochs": 4, "data.num_workers": 0}}
    assert (config["resumed"], config["run_hash"]) == ([change], longer["run_hash"])
    runs, left_out = read_runs([tmp_path / "runs"])
    runs, repeats = drop_repeats(runs)
    assert (left_out, repeats) == ([], [])
    (data,) = group_by_data_set(runs)
    assert sorted(group.label for group in data.groups) == ["plain", "resumed=trainer.max_epochs=4 after epoch 3"]


def test_a_change_before_the_first_checkpoint_holds_from_the_start(finished: Path, resume, tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    shutil.copy(finished / paths.CONFIG, tmp_path / "killed")
    short = resume(tmp_path / "killed", "trainer.max_epochs=1")
    assert "resumed" not in read_config(tmp_path / "killed")
    config = load_config(finished)
    config.trainer.max_epochs = 1
    assert short["run_hash"] == run_hash(config, config.data_sha256)


def test_a_finished_run_is_not_resumed_without_more_epochs(finished: Path, resume, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for changes in ([], ["trainer.max_epochs=2"]):
        with pytest.raises(CarltError, match=r"has trained 3 epochs already.*give a larger trainer\.max_epochs"):
            resume(folder, *changes)
    assert differences(end_state(finished), end_state(folder)) == []


@pytest.mark.parametrize("damage", ["cut", "foreign", "code"])
def test_a_damaged_checkpoint_is_one_error(damage: str, finished: Path, resume, tmp_path: Path) -> None:
    folder, trace = tmp_path / "run", tmp_path / "executed"
    shutil.copytree(finished, folder)
    last = paths.checkpoint(folder, "last")
    if damage == "cut":
        last.write_bytes(last.read_bytes()[:1000])
    elif damage == "foreign":
        torch.save({"some": torch.ones(2)}, last)
    else:
        torch.save({"state_dict": Touch(trace)}, last)
    with pytest.raises(CarltError, match=r"last\.ckpt is damaged or no carlt checkpoint"):
        resume(folder, "trainer.max_epochs=4")
    assert not trace.exists()


class Touch:
    """Unpickling an object of this class makes the file ``path``: what a hostile checkpoint could do."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)
