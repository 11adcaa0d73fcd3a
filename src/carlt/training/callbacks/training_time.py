"""How long a run has trained, over all of its processes."""

import reprlib
from typing import Any

from lightning.pytorch.callbacks import Timer

MAX_SECONDS = 1 << 40


class TrainingTime(Timer):
    """Lightning's timer without a limit: a resumed run goes on with the seconds up to its checkpoint."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if not isinstance(self._offset, int | float) or not 0 <= self._offset < MAX_SECONDS:
            raise ValueError(f"the time of training is {reprlib.repr(self._offset)}")
