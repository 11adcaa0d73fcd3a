"""``python -m carlt.report dashboard entity/project``: a W&B workspace with the curves and pictures of carlt's runs."""

import json
import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carlt.errors import CarltError, first_line

USAGE = """usage: python -m carlt.report dashboard <entity>/<project> [file=<file.json>]

Save a workspace in W&B for the runs of a project: worst class, groups, CAR's diagnostics, test numbers, confusion
matrices and the table of each class. It needs the key of `wandb login` or WANDB_API_KEY and
pip install 'carlt[dashboard]'.

  file=<file.json>  write the workspace to a file, without the network
"""
CURVES: dict[str, dict[str, list[Any]]] = {
    "Worst class and groups": {
        "Worst class (validation)": ["val/worst_class"],
        "Balanced accuracy (validation)": ["val/balanced_accuracy"],
        "Few (validation)": ["val/few"],
        "Medium (validation)": ["val/medium"],
        "Many (validation)": ["val/many"],
        "Worst class (training batches)": ["train_batches/worst_class"],
    },
    "CAR": {
        "Spectral norm": ["car/spectral_norm"],
        "Gap between estimate and truth": ["car/ema_gap"],
        "Share of a step's time": ["car/time_share"],
        "Steps left out": ["car/skipped_steps"],
        "Gradient, to the loss's": ["gradient/ratio"],
        "Share of the gradient to few": ["gradient/penalty_few"],
    },
    "Training": {
        "Loss": ["train/loss"],
        "Penalty": ["train/penalty"],
        "Learning rate": ["train/learning_rate"],
        "Images per second": ["train/images_per_s"],
    },
}
BARS = ("test/worst_class", "test/few", "test/balanced_accuracy", "test/accuracy")
PICTURES = {
    "Confusion": "plots/confusion",
    "Accuracy of each class": "plots/per_class",
    "Worst classes": "plots/worst_classes",
    "Confused pairs": "plots/confused_pairs",
}
COLUMNS = ("config:reg", "config:reg/weight", "config:loss", "config:seed", "config:sweep")


def main(arguments: Sequence[str]) -> None:
    """The command, from the words after ``dashboard``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return
    files = [Path(argument.removeprefix("file=")) for argument in arguments if argument.startswith("file=")]
    names = [argument for argument in arguments if not argument.startswith("file=")]
    parts = names[0].split("/") if len(names) == 1 else []
    if len(parts) != 2 or not all(parts):
        raise CarltError(
            f"dashboard {' '.join(names)}: expected <entity>/<project>, as in the address of a W&B project"
        )
    view = workspace(*parts)
    if files:
        from carlt.runs.paths import write_text_atomic

        spec = view._to_model().model_dump(by_alias=True, exclude_none=True)
        write_text_atomic(files[-1], json.dumps(spec, indent=2) + "\n")
        print(f"Workspace: {files[-1]}")
        return
    save(view)


def workspace(entity: str, project: str) -> Any:
    """A ``wandb_workspaces.workspaces.Workspace``, grouped by experiment; not saved yet."""
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError:
        raise CarltError("dashboard needs the package wandb-workspaces: pip install 'carlt[dashboard]'") from None
    step = "trainer/global_step"
    sections = [
        ws.Section(
            name=name,
            is_open=True,
            panels=[panels.LinePlot(title=title, x=step, y=metrics) for title, metrics in curves.items()],
        )
        for name, curves in CURVES.items()
    ]
    results = ws.Section(
        name="Test split, last epoch",
        is_open=True,
        panels=[panels.BarPlot(title=name, metrics=[panels.SummaryMetric(name)]) for name in BARS],
    )
    classes = ws.Section(
        name="Classes",
        is_open=True,
        panels=[
            *(panels.MediaBrowser(title=title, media_keys=[key]) for title, key in PICTURES.items()),
            panels.LinePlot(title="Accuracy by rank of the class", x="classes/rank", y=["classes/test_accuracy"]),
            panels.WeavePanelSummaryTable(table_name="per_class"),
        ],
    )
    return ws.Workspace(
        entity=entity,
        project=project,
        name="carlt",
        sections=[results, *sections, classes],
        settings=ws.WorkspaceSettings(x_axis=step),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric("Group")], pinned_columns=[*COLUMNS, *(f"summary:{n}" for n in BARS)]
        ),
    )


def save(view: Any) -> None:
    """Save a workspace as a new view; a refusal is one line."""
    if not has_wandb_key():
        raise CarltError("dashboard needs a W&B key: wandb login, or WANDB_API_KEY; file=<file.json> does without")
    os.environ.setdefault("WANDB_SILENT", "true")  # the address is printed below
    try:
        view.save()
    except Exception as error:  # of the network, of the service's answer or of the key
        reason = first_line(error)
        raise CarltError(f"W&B did not take the workspace of {view.entity}/{view.project}: {reason}") from error
    print(f"Workspace: {view.url}")


def has_wandb_key() -> bool:
    """Whether the environment or ``wandb login`` has left a key; it is not read further."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
