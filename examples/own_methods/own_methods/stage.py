"""A second stage of one's own."""

from typing import Any, ClassVar

from torch import nn

from carlt.stages import Stage


class BiasOnly(Stage):
    """The trained classifier, of which the bias alone is trained again, on frozen features."""

    paper: ClassVar[str] = "Bias only (ours)"
    classifiers = (nn.Linear,)

    def replace_classifier(self, trained: Any) -> nn.Module:
        """The same layer with a trainable bias."""
        trained.bias.requires_grad_(True)
        return trained
