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
