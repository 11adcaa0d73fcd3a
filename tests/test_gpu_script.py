"""experiments/gpu: what does not fit its time is cut off and said so; wheels bring only what is missing."""

import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "gpu"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the checkout's experiments/ are not here")


@pytest.fixture
def script(load_script) -> ModuleType:
    return load_script(FOLDER / "run.py")


def test_a_part_that_takes_too_long_ends_with_its_children(script, tmp_path: Path, capsys, monkeypatch) -> None:
    beats = tmp_path / "beats"
    child = f"while sleep 0.1; do echo >> {beats}; done"
    listed = [
        script.Part("slow", ["sh", "-c", f"sh -c '{child}'; true"], 2),
        script.Part("broken", [sys.executable, "-c", "print('said'); raise SystemExit(3)"], 224),
        script.Part("elsewhere", [], 20, "no data here"),
        script.Part("good", ["true"], 224),  # with broken's, all of the time but two seconds
    ]
    monkeypatch.setattr(script, "parts", lambda out, gpu: listed)
    copies = tmp_path / "copies"
    assert script.main(["--out", str(tmp_path), "--copy", str(copies), "--commit", "abc123"]) == 1
    assert {path.name for path in copies.iterdir()} == {"results.md", "slow.log", "broken.log", "good.log"}
    table = (tmp_path / "results.md").read_text()
    for line in (
        "| broken | failed with exit code 3, see broken.log |",
        "| elsewhere | left out: no data here | 0 |",
        "| carlt | commit abc123 |",
        "| good | done |",
        "| processor |",
        "| software | Python 3",
    ):
        assert line in table
    assert re.search(r"^\| slow \| cut off after 2 s \| \d+ \| 2 \|$", table, re.MULTILINE)  # and its seconds
    assert (tmp_path / "broken.log").read_text() == "said\n"
    assert table in capsys.readouterr().out
    before = beats.stat().st_size
    time.sleep(0.5)
    assert beats.stat().st_size == before > 0


def test_time_that_is_left_goes_to_the_parts_that_follow(script) -> None:
    first, lacking, last = script.Part("a", [], 60), script.Part("b", [], 60, "no git"), script.Part("c", [], 100)
    assert script.seconds_for(first, [lacking, last], left=200, scale=1) == 100
    assert script.seconds_for(last, [], left=170, scale=1) == 170
    assert script.seconds_for(first, [last], left=120, scale=1) == 60  # its own, though the last may then be cut
    assert script.seconds_for(first, [last], left=20, scale=0.5) == 20


def test_all_parts_together_fit_into_eight_minutes(script, tmp_path: Path) -> None:
    for gpu in (False, True):
        assert sum(part.seconds for part in script.parts(tmp_path, gpu)) <= 60 * script.MINUTES < 60 * 8
    (tests,) = (part.words for part in script.parts(tmp_path, gpu=True) if part.name == "tests")
    assert str(ROOT / "tests" / "reg" / "test_car_device.py") in tests
    (methods,) = (part.words for part in script.parts(tmp_path, gpu=True) if part.name == "methods")
    assert methods[-1] == str(ROOT / "tests" / "e2e" / "test_on_a_gpu.py") not in tests


def test_wheels_bring_what_is_missing_and_replace_nothing(script, tmp_path: Path) -> None:
    for name in ("carlt_test_missing", "PyYAML"):
        with zipfile.ZipFile(tmp_path / f"{name}-0.1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "x = 1\n")
            info = f"{name}-0.1.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    (tmp_path / "carlt_test_broken-0.1-py3-none-any.whl").write_bytes(b"no archive")
    assert script.install(tmp_path, tmp_path / "packages") == ["carlt-test-missing"]
    assert (tmp_path / "packages" / "carlt_test_missing.py").exists()
    assert not (tmp_path / "packages" / "PyYAML.py").exists()
    script.PACKAGES = ("carlt-test-missing", "pyyaml", "no-such-package")
    assert script.versions(tmp_path / "packages").startswith("carlt-test-missing 0.1, pyyaml 6")


@pytest.mark.slow  # most of a minute
def test_the_training_runs_here(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "training.py"), "cpu", str(tmp_path / "run"), "trainer.max_epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "result.json").exists()
