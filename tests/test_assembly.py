from pathlib import Path

import pytest

from carlt.assembly import build_trainer
from carlt.config import compose_config
from carlt.errors import CarltError


@pytest.mark.parametrize("epochs", ["0", "-1", "null"])
def test_a_run_needs_a_number_of_epochs(epochs: str, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=r"trainer\.max_epochs"):
        build_trainer(compose_config("train", [f"trainer.max_epochs={epochs}"]), tmp_path, [])
