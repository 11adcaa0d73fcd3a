"""Where in an epoch a training is."""

import lightning as L


def goes_on_within_epoch(trainer: L.Trainer) -> bool:
    """Whether an epoch that "starts" is the rest of a resumed one: Lightning before 2.5 calls ``on_train_epoch_start``
    for it, and what was summed over its first batches must stay."""
    return trainer.fit_loop.restarting
