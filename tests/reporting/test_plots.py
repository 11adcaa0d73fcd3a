from pathlib import Path

import numpy as np
import pytest

from carlt.reporting import plots
from carlt.runs.record import write_confusion, write_per_class


@pytest.mark.parametrize("classes", [2, 15, 45, 450])
def test_any_number_of_classes_can_be_drawn(classes: int, tmp_path: Path) -> None:
    counts = list(range(classes, 0, -1))
    seen = [0, *[4] * (classes - 1)]  # the first class has no test images
    write_per_class(tmp_path, [f"class {c}" for c in range(classes)], counts, seen, [n // 2 for n in seen])
    everyone = np.arange(1, classes)
    write_confusion(tmp_path, everyone, everyone, np.full(classes - 1, 4), classes)
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,5,2.5\n1,10,\n")
    for path in plots.draw_run(tmp_path).values():
        assert path.read_bytes().startswith(b"\x89PNG")
