"""Writes preset/README.md: row, preset, command, measured result and published number, from the presets themselves.

``python experiments/preset_index.py`` after a preset was added or changed; a test tells when it was forgotten. A preset
begins with comment lines: what it is, then facts, each ``key: value``:

    tables     which tables of CAR's paper it is a row of, see ``TABLES``
    published  ``method, setting`` of its numbers in src/carlt/reporting/published.csv
    sweep      overrides that make its command a sweep
    then       overrides of the second command, on the first's run folder
    measured   a result, and the file beside this one that tells how it was measured
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from carlt.config.compose import compose_config, option_file, options
from carlt.reporting.published import FILE, READING
from carlt.reporting.summary import COLUMNS

HERE = Path(__file__).parent
INDEX = HERE / "preset" / "README.md"
SOURCE = "CAR, arXiv 2603.16732"
TABLES = {
    "main": "Table 1: main results, ViT-Small from scratch",
    "fine-tuning": "Table 2: fine-tuning, ViT-Small from pre-trained weights",
    "worst class": "Table 3, and figures 1 and 4: the runs of the main results, read for their worst class",
    "backbones": "Table 4: backbones on ImageNet-LT; ViT-Small is in the main results",
    "imbalance factors": "Table 5: imbalance factors; CIFAR100-LT's 100 and the official ImageNet-LT are in table 1",
    "augmentations and factors": "Table 6: augmentations without and with CAR by imbalance factor",
    "augmentations": "Further augmentations with CAR, CIFAR100-LT; ConCutMix is in the main results",
    "ablation": "Table 7: ablations of Lambda and of the EMA; both together are in the main results",
    "pre-trained ResNet": "Table 8: a pre-trained ResNet on Tiny-ImageNet-LT by imbalance factor",
    "hyper-parameters": "Figure 3: hyper-parameters, CIFAR100-LT",
    "adapters": "Few trained weights on CLIP's image tower, LIFT's recipe; not in CAR's paper",
    "released code": "CAR's released code, whose values differ from the paper's",
    "released recipes": "Recipes of other papers, ResNets; not in CAR's paper",
    "digits": "The bundled digits; not in CAR's paper",
    "tiny": "100 classes of Tiny-ImageNet, 32 x 32; not in CAR's paper",
}
MISSING = {
    "SAFA (tables 3 and 6, figure 1)": "its hyper-parameters are not at hand, and it is not part of carlt",
    "SMC": "neither its formula nor its code is at hand",
    "MetaSAug (table 6)": "its meta-gradient through the training step is not part of carlt",
    "Figure 2 (confusion maps)": "`python -m carlt.report` draws it from the runs of the main results",
    "Methods of tables 4, 5, 6 and 8 beyond those above": "which ones the paper compares there is not at hand in full",
}
"""What the paper has and no preset trains, and the reason."""
METRICS = {
    "worst class": ("test/worst_class", "test/worst_ratio"),
    "": ("test/many", "test/medium", "test/few", "test/accuracy"),
}
UNKNOWN = "not at hand"
NOT_IN_PAPER = ("released code", "released recipes", "digits", "tiny")


@dataclass(frozen=True)
class Preset:
    """A preset as its header tells it."""

    name: str
    title: str
    facts: dict[str, str]
    published: list[dict[str, str]] = field(default_factory=list)
    """Its lines of published.csv."""

    @property
    def tables(self) -> list[str]:
        return self.facts["tables"].split(", ")

    @property
    def overrides(self) -> list[str]:
        """What follows ``python -m carlt.train``."""
        sweep = self.facts.get("sweep", "").split()
        return [*(["-m"] if sweep else []), f"preset={self.name}", *sweep]

    def line(self, table: str) -> str:
        """Its row of the index."""
        command = f"`{' '.join(['python -m carlt.train', *self.overrides])}`"
        if "then" in self.facts:
            command += f", then `python -m carlt.train {self.facts['then']} init_run=<its folder>`"
        result, _, file = self.facts.get("measured", "").rpartition(", ")
        measured = f"{result} ([how](../{file}))" if file else "not measured"
        shown = METRICS.get(table, METRICS[""])
        known = [_number(row) for metric in shown for row in self.published if row["metric"] == metric]
        theirs = ", ".join(known) or ("" if table in NOT_IN_PAPER else UNKNOWN)
        return f"| {self.title} | [{self.name}]({self.name}.yaml) | {command} | {measured} | {theirs} |"


def read(name: str) -> Preset:
    """The preset of this name; ValueError if its header lacks what the index tells."""
    lines = [text[2:].strip() for text in option_file("preset", name).read_text().splitlines() if text.startswith("# ")]
    title, *rest = lines[1:]
    facts = dict(text.split(": ", 1) for text in rest)
    if unknown := facts.keys() - {"tables", "published", "sweep", "then", "measured"}:
        raise ValueError(f"preset {name}: its header has unknown facts: {', '.join(sorted(unknown))}")
    if wrong := set(facts.get("tables", "none").split(", ")) - TABLES.keys():
        raise ValueError(f"preset {name}: no such tables: {', '.join(sorted(wrong))}")
    return Preset(name, title.rstrip("."), facts, _published(name, facts["published"]) if "published" in facts else [])


def published_rows() -> list[dict[str, str]]:
    """All lines of published.csv."""
    with open(FILE, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def index(presets: list[Preset]) -> str:
    """The page."""
    text = f"""# Presets: a row of a table, its preset, its command

`python -m carlt.train preset=<name>` trains one; anything may be changed beside it, e.g. `data.root=...`, and with `-m`
`seed=0,1,2`. There are {len(presets)}; `_base/` has what they share. The tables are those of CAR's paper
(arXiv 2603.16732); a row may be a sweep over several of the paper's rows, and what no preset trains is named at the
end. Published numbers are top-1 % on the test split, from
[published.csv](../../src/carlt/reporting/published.csv), none of them measured here; "{UNKNOWN}": no source here gives
one; "{READING}": read from a figure. WR is the worst class's test over train accuracy. Where the paper's recipe is not
known in full, the recipe's file or the preset says so.

This page is written by `python experiments/preset_index.py` from the presets.
"""
    for table, title in TABLES.items():
        rows = [preset.line(table) for preset in presets if table in preset.tables]
        head = "| row | preset | command | measured here | published |\n|---|---|---|---|---|"
        text += "\n".join([f"\n## {title}\n", head, *rows]) + "\n"
    claimed = [row for preset in presets for row in preset.published]
    others: dict[str, list[str]] = {}
    for row in published_rows():
        if row["source"].startswith(SOURCE) and row not in claimed:
            others.setdefault(f"{row['method']}, {row['setting']}, on {row['data']}", []).append(_number(row))
    lines = [f"- {what}: {why}." for what, why in MISSING.items()]
    lines += ["", "Published numbers that no preset is to reach:", ""]
    lines += [f"- {name}: {', '.join(numbers)}" for name, numbers in others.items()]
    return text + "\n## Missing\n\n" + "\n".join(lines) + "\n"


def _published(name: str, what: str) -> list[dict[str, str]]:
    """The lines of published.csv about ``method, setting`` on the preset's data."""
    data = compose_config("train", [f"preset={name}"]).data
    factor = str(data.get("imbalance_factor") or "")
    found = [
        row
        for row in published_rows()
        if f"{row['method']}, {row['setting']}" == what
        and row["data"].replace("_", "") == str(data._target_).rpartition(".")[2].lower()
        and row["imbalance_factor"] == factor
    ]
    if not found:
        raise ValueError(f"preset {name}: published.csv has no {what} on its data")
    return found


def _number(row: dict[str, str]) -> str:
    """A published number and what it is of."""
    heading = next(column.heading for column in COLUMNS if column.metric == row["metric"])
    return f"{heading} {READING if 'read from figure' in row['source'] else ''}{row['value']}"


def main() -> None:
    """Write the page."""
    INDEX.write_text(index([read(name) for name in options("preset")]))


if __name__ == "__main__":
    main()
