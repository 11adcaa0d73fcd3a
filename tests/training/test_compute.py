"""``trainer.precision=auto``, ``channels_last=auto`` and ``trainer.compile``."""

import json
import multiprocessing
import os
import time

import pytest
import torch

from carlt.commands import run as run_module
from carlt.commands.run import config_of_run
from carlt.config.overrides import compose_checked
from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.config_file import read_config
from carlt.runs.hash import run_hash
from carlt.runs.provenance import processor
from carlt.training import compute
from carlt.training.callbacks import read_checkpoint

AUTO = ("trainer.accelerator=cpu", "trainer.precision=auto", "channels_last=auto")
FAST = {"float32": 4.0, "bfloat16": 2.0, "float32, channels last": 3.0, "bfloat16, channels last": 1.0}
SLOW = {"float32": 4.0, "bfloat16": 3.9, "float32, channels last": 4.1, "bfloat16, channels last": 1.0}


@pytest.fixture
def measured(monkeypatch):
    """``measured(ms)``: what a measurement would find, on hardware that has bfloat16."""

    def measured(ms, native=True):
        monkeypatch.setattr(compute, "milliseconds", lambda device: ms)
        monkeypatch.setattr(compute, "native_bfloat16", lambda device: native)

    return measured


def composed(*overrides):
    config = compose_checked("train", overrides)
    return config_of_run(config, config.hydra)


def resolved(*overrides):
    config = composed(*overrides)
    compute.resolve(config)
    return config


@pytest.mark.parametrize(
    ("ms", "native", "precision", "layout"),
    [(FAST, True, "bf16-mixed", True), (FAST, False, "32-true", True), (SLOW, True, "32-true", False)],
)
def test_auto_is_what_was_measured(measured, ms, native, precision, layout) -> None:
    measured(ms, native)
    config = resolved(*AUTO)
    assert (config.trainer.precision, config.channels_last) == (precision, layout)
    assert config.compute_ms == ms
    said = composed(AUTO[0], f"trainer.precision={precision}", f"channels_last={str(layout).lower()}")
    assert run_hash(config, "") == run_hash(said, "")


@pytest.mark.parametrize("native", [True, False])
def test_a_measurement_takes_little_and_times_bfloat16_where_it_is_native(native: bool, monkeypatch) -> None:
    monkeypatch.setattr(compute, "native_bfloat16", lambda device: native)
    found = compute.milliseconds.__wrapped__("cpu")
    assert found.keys() == {name for name in FAST if native or "bfloat16" not in name}
    assert all(0 < value < 1000 for value in found.values())


def test_a_measurement_draws_no_number_of_the_run() -> None:
    state = torch.random.get_rng_state()
    compute.milliseconds.__wrapped__("cpu")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_bfloat16_that_was_asked_for_where_it_is_not_native_leaves_the_layout_of_float32(measured) -> None:
    measured({"float32": 4.0, "float32, channels last": 3.0}, False)
    config = resolved(AUTO[0], "trainer.precision=bf16-mixed", "channels_last=auto")
    assert (config.trainer.precision, config.channels_last) == ("bf16-mixed", True)


def test_published_recipes_keep_float32_and_a_folder_of_ones_own_does_not(measured) -> None:
    measured(FAST)
    for overrides in ((), ("preset=main/cifar100_lt_car",), ("data=imagenet_lt", "model=resnet50")):
        config = resolved("trainer.accelerator=cpu", *overrides)
        assert (config.trainer.precision, config.channels_last) == ("32-true", False)
        assert "compute_ms" not in config
    config = resolved("trainer.accelerator=cpu", "data=image_folder", "data.root=x", "model=resnet50")
    assert (config.trainer.precision, config.channels_last) == ("bf16-mixed", True)


def test_all_devices_are_their_number_in_hash_and_record(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for number in (2, 4):
        monkeypatch.setattr(torch.cuda, "device_count", lambda number=number: number)
        said = composed("trainer=ddp", f"trainer.devices={number}")
        for word in ("auto", "-1"):
            alone, job = (composed("trainer=ddp", f"trainer.devices={word}") for _ in range(2))
            compute.resolve(alone)
            compute.resolve_once(job, tmp_path / "compute.json")
            assert alone.trainer.devices == job.trainer.devices == number
            assert run_hash(alone, "") == run_hash(job, "") == run_hash(said, "")
    assert resolved("trainer=ddp", "trainer.accelerator=cpu").trainer.devices == 1
    assert resolved("trainer.devices=[1,3]").trainer.devices == [1, 3]


@pytest.mark.parametrize(("devices", "first"), [("1", "cuda"), ("[1,3]", "cuda:1"), ("[3]", "cuda:3"), ("[4]", "cuda")])
def test_the_gpu_that_trains_is_measured(devices: str, first: str, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(str(device)) or (7, 5))
    monkeypatch.setattr(compute, "milliseconds", lambda device: asked.append(device) or FAST)
    resolved(f"trainer.devices={devices}", "trainer.precision=auto")
    assert asked == [first, first]


def test_a_resumed_run_of_an_earlier_version_keeps_its_devices_and_hash() -> None:
    config = composed("trainer=ddp", "trainer.accelerator=cpu")
    config.resume = "runs/x"
    compute.resolve(config)
    assert config.trainer.devices == "auto"


def test_float32_said_or_not_is_one_hash() -> None:
    said, unsaid = composed(), composed()
    assert unsaid.trainer.pop("precision") == "32-true"
    assert run_hash(said, "") == run_hash(unsaid, "")
    other = composed("trainer.precision=bf16-mixed")
    assert run_hash(other, "") != run_hash(said, "")


def test_processes_that_a_cluster_starts_agree_without_measuring(measured, monkeypatch) -> None:
    measured(SLOW)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    config = resolved(*AUTO)
    assert (config.trainer.precision, config.channels_last, config.compute_ms) == ("bf16-mixed", True, {})


@pytest.mark.parametrize("override", ["channels_last=perhaps", "trainer.precision=8-true", "trainer.compile=fast"])
def test_a_wrong_value_is_named(run, override: str, tmp_path) -> None:
    with pytest.raises(CarltError, match=override.partition("=")[0]):
        run(tmp_path / "run", override)


@pytest.mark.parametrize("compiled", [False, pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_the_record_says_how_it_was_computed_and_resume_keeps_it(compiled, run, resume, measured, tmp_path) -> None:
    measured(FAST)
    through, again = tmp_path / "through", tmp_path / "again"
    # Small, because a processor without bfloat16 is slow at it.
    options = ("reg=car", *AUTO, f"trainer.compile={str(compiled).lower()}", "model.width=4")
    result = run(through, *options, "trainer.max_epochs=2")
    assert result["compute"] == {
        "precision": "bf16-mixed",
        "channels_last": True,
        "compile": compiled,
        "measured_ms": FAST,
    }
    run(again, *options, "trainer.max_epochs=1")
    measured(SLOW)
    resumed = resume(again, "trainer.max_epochs=2")
    assert resumed["compute"] == result["compute"]
    assert read_config(again)["trainer"]["precision"] == "bf16-mixed"
    one, other = (read_checkpoint(paths.checkpoint(folder, "last"))["state_dict"] for folder in (through, again))
    assert one.keys() == other.keys()
    assert not any("_orig_mod" in name for name in one)
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.slow
def test_inductor_trains(run, tmp_path) -> None:
    """With the compiler that ``trainer.compile=true`` means."""
    plain = run(tmp_path / "plain", "reg=car")
    compiled = run(tmp_path / "compiled", "reg=car", "trainer.compile=true")
    assert compiled["run_hash"] != plain["run_hash"]
    assert compiled["metrics"]["test/accuracy"] == pytest.approx(plain["metrics"]["test/accuracy"], abs=0.02)


def test_the_jobs_of_a_sweep_take_what_the_first_one_measured(measured, tmp_path) -> None:
    for ms in (FAST, SLOW):
        measured(ms)
        config = composed(*AUTO)
        compute.resolve_once(config, tmp_path / "compute.json")
        assert (config.trainer.precision, config.channels_last) == ("bf16-mixed", True)
        said = composed(AUTO[0], "trainer.precision=32-true", "channels_last=false")
        compute.resolve_once(said, tmp_path / "compute.json")
        assert (said.trainer.precision, said.channels_last) == ("32-true", False)


def test_runs_beside_each_other_take_what_the_first_one_measured(measured, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("carlt.commands.run._run", lambda config, folder, *_: {"config": config})
    found = []
    for seed, ms in enumerate((FAST, SLOW)):
        measured(ms)
        config = composed(*AUTO, f"seed={seed}")
        found.append(run_module.run(config, tmp_path / "runs" / f"run_{seed}", hash_in_name=True)["config"])
    assert [(each.trainer.precision, each.channels_last) for each in found] == [("bf16-mixed", True)] * 2
    (kept,) = json.loads((tmp_path / "runs" / ".compute.json").read_text())
    assert kept == f"auto, auto on {processor()}, torch {torch.__version__}"


def test_jobs_that_begin_together_compute_alike(measured, tmp_path, monkeypatch) -> None:
    """Alone, the one would choose this layout and the other that."""
    fork = multiprocessing.get_context("fork")
    together, found, place = fork.Barrier(2), fork.SimpleQueue(), tmp_path / "new" / "compute.json"

    def job(ms: dict[str, float]) -> None:
        def slowly(device: str) -> dict[str, float]:
            time.sleep(0.5)
            return ms

        measured(ms)
        monkeypatch.setattr(compute, "milliseconds", slowly)
        config = composed(*AUTO)
        together.wait(timeout=60)
        compute.resolve_once(config, place)
        found.put(config.channels_last)

    jobs = [fork.Process(target=job, args=(ms,)) for ms in (FAST, SLOW)]
    for process in jobs:
        process.start()
    for process in jobs:
        process.join(timeout=60)
    assert [process.exitcode for process in jobs] == [0, 0]
    assert found.get() == found.get()
    assert os.listdir(tmp_path / "new") == ["compute.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"auto, auto": 3}', '{"auto, auto": {}}'])
def test_a_damaged_note_of_a_measurement_is_named(content: str, measured, tmp_path) -> None:
    (tmp_path / "compute.json").write_text(content)
    measured(FAST)
    with pytest.raises(CarltError, match=r"compute\.json is damaged; remove it"):
        compute.resolve_once(composed(*AUTO), tmp_path / "compute.json")


def test_a_layout_is_chosen_by_more_than_noise(measured) -> None:
    measured(SLOW | {"float32, channels last": 0.95 * SLOW["float32"]})
    assert resolved(*AUTO).channels_last is False


def test_a_gpu_without_float64_trains_nothing(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    config = compose_checked("train", [])
    compute.resolve(config)
    assert config.trainer.accelerator == "cpu"
    with pytest.raises(CarltError, match=r"trainer\.accelerator=mps: it has no float64"):
        compute.resolve(compose_checked("train", ["trainer.accelerator=mps"]))
