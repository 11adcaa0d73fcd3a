"""The parts of logging that need no run; tests/e2e has the rest."""

from pathlib import Path

import pytest

from carlt.errors import CarltError
from carlt.training import loggers


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any login."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return tmp_path


def test_wandb_is_offline_without_a_key(tmp_path: Path) -> None:
    assert loggers.wandb_logger(tmp_path)._offline is True


def test_wandb_is_online_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert loggers.wandb_logger(tmp_path)._offline is False
    assert loggers.wandb_logger(tmp_path, offline=True)._offline is True


def test_a_login_file_is_a_key(nobody: Path, tmp_path: Path) -> None:
    login = nobody / ".netrc"
    login.write_text("machine api.wandb.ai login user password secret\n")
    login.chmod(0o600)
    assert loggers.wandb_logger(tmp_path)._offline is False


def test_a_resumed_run_keeps_its_wandb_run(tmp_path: Path) -> None:
    first, again = loggers.wandb_logger(tmp_path / "a"), loggers.wandb_logger(tmp_path / "a")
    other = loggers.wandb_logger(tmp_path / "b")
    assert first.version == again.version != other.version


def test_tensorboard_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr(loggers, "TensorBoardLogger", missing)
    with pytest.raises(CarltError, match=r"pip install -e '\.\[tensorboard\]'"):
        loggers.tensorboard_logger(tmp_path)
