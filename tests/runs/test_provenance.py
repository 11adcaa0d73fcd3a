import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from carlt.runs import provenance


def test_the_commit_of_a_repository_around_an_installed_carlt_is_not_carlts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x", *words], check=True)

    installed = tmp_path / ".venv" / "provenance.py"
    installed.parent.mkdir()
    shutil.copy(provenance.__file__, installed)
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=x")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance.commit.__wrapped__() is None
    git("add", ".")
    git("commit", "--quiet", "--message=x")
    assert len(provenance.commit.__wrapped__() or "") == 40


def test_the_processor_is_named_by_its_model_or_else_by_its_architecture(tmp_path: Path) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text(
        "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 9654\nprocessor\t: 1\nmodel name\t: other\n"
    )
    assert provenance.processor(listed) == "AMD EPYC 9654"
    listed.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")  # of an ARM processor
    for path in (listed, tmp_path / "missing"):
        assert provenance.processor(path) in (platform.processor(), platform.machine())
