"""carlt: long-tailed image recognition with CAR, the confusion-aware spectral regularizer (arXiv 2603.16732).

>>> import carlt
>>> carlt.__version__
'0.2.0'

``carlt.CAR`` needs torch alone. ``carlt.train(...)`` and ``carlt.load_run(folder)`` need the extra ``train``:
``pip install 'carlt[train]'``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carlt.commands.run import train
    from carlt.evaluation.load import TrainedRun, load_run
    from carlt.reg import CAR

__version__ = "0.2.0"
__all__ = ["CAR", "TrainedRun", "load_run", "train"]

_HOMES = {
    "CAR": "carlt.reg",
    "TrainedRun": "carlt.evaluation.load",
    "load_run": "carlt.evaluation.load",
    "train": "carlt.train",
}


def __getattr__(name: str) -> Any:
    """Import what is public when it is first used, so that ``from carlt import CAR`` loads torch and nothing else."""
    if name not in _HOMES:
        raise AttributeError(f"module 'carlt' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name != "CAR":
        from carlt.errors import require_train

        require_train(f"carlt.{name}")
    home = importlib.import_module(_HOMES[name])
    return home if name == "train" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
