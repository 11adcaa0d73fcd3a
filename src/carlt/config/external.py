"""Parameters of other packages' classes: which a config may set, and their ranges."""

from typing import Any, Literal

from carlt.ranges import Count, CountOrZero, NonNegative, Positive, PositiveShare, Share

TRAINER = "lightning.Trainer"
TRAINER_VALUES: dict[str, Any] = {
    "max_epochs": Count,
    "accelerator": str,
    "devices": Count | str | list[CountOrZero] | Literal[-1],
    "num_nodes": Count,
    "strategy": str,
    # Images are normalised in float32, so networks in another true precision cannot take them.
    "precision": Literal["auto", "32-true", "16-mixed", "bf16-mixed", "32", "16", "bf16", 32, 16] | None,
    "accumulate_grad_batches": Count,
    "gradient_clip_val": NonNegative | None,
    "gradient_clip_algorithm": Literal["norm", "value"] | None,
    "limit_train_batches": Count | PositiveShare | None,
    "limit_val_batches": Count | PositiveShare | None,
    "check_val_every_n_epoch": Count,
    "num_sanity_val_steps": CountOrZero,
    "log_every_n_steps": Count | None,
    "enable_progress_bar": bool,
    "enable_model_summary": bool,
    "deterministic": bool | Literal["warn"] | None,
    "benchmark": bool | None,
    "detect_anomaly": bool,
    "inference_mode": bool,
    "sync_batchnorm": bool,
    "compile": bool | str,  # carlt's own: true, or a backend of torch.compile
}
"""Left out is what carlt gives itself (callbacks, loggers, folders), what schedules cannot follow (``max_steps``,
``max_time``), and what would make a record of part of the test images (``limit_test_batches``, ``fast_dev_run``)."""

RANGES: dict[str, dict[str, Any]] = {
    "torchvision.transforms.v2.MixUp": {"alpha": Positive},
    "torchvision.transforms.v2.CutMix": {"alpha": Positive},
    "torchvision.transforms.v2.RandAugment": {"num_ops": Count, "magnitude": CountOrZero},
    "torchvision.transforms.v2.RandomErasing": {"p": Share},
}
"""Ranges that the classes do not write into their annotations."""
