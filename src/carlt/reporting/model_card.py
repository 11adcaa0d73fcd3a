"""A model card: what a network does, what it was trained on and how, what it gets right, and what it cannot do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carlt.reporting.formats import markdown_text, percent
from carlt.runs.keys import CHANGE_NO_NUMBER, is_under
from carlt.runs.reading import Run
from carlt.runs.record import ClassResult
from carlt.shots import FEW_BELOW, GROUPS, MANY_ABOVE

PARTS = ("model", "stage", "loss", "reg", "aug", "sampler", "optim", "data")
METRICS = {
    "test/accuracy": "overall",
    "test/many": f"many-shot classes (more than {MANY_ABOVE} training images)",
    "test/medium": f"medium-shot classes ({FEW_BELOW} to {MANY_ABOVE})",
    "test/few": f"few-shot classes (fewer than {FEW_BELOW})",
    "test/worst_class": "worst class",
    "test/worst_10pct": "worst tenth of the classes",
    "test/ece": "expected calibration error",
}
FEW_TESTS = 20
"""With fewer test images than this, a class at 50 % has a 95 % interval that is more than 40 points wide."""
NAMED = 10
"""Classes that a sentence names at most."""


def model_card(run: Run, facts: Mapping[str, Any], which: str, files: Sequence[str]) -> str:
    """Markdown.

    Args:
        facts: of the exported network (``carlt.evaluation.export.facts_of``).
        which: the checkpoint, ``last``, ``best`` or a file.
        files: names of the exported files.
    """
    best = run.result.get("best") if which == "best" else None
    metrics = best["metrics"] if best else run.result["metrics"]
    sections = (
        [f"# {_plain(_title(run))}", "", *_summary(run, facts)],
        ["## Use", "", *_use(facts, files)],
        ["## Data", "", *_data(run)],
        ["## Recipe", "", *_recipe(run)],
        ["## Accuracy", "", *_accuracy(run, metrics, which, best)],
        ["## Limits", "", *(f"- {sentence}" for sentence in _limits(run, metrics, best))],
        ["## Accuracy of each class", "", *_classes(run, which)],
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _title(run: Run) -> str:
    return f"{run.config.get('choices.model', 'network')} on {run.result['data'].get('name', 'unknown data')}"


def _summary(run: Run, facts: Mapping[str, Any]) -> Iterator[str]:
    commit = run.result.get("commit")
    yield (
        f"A network that classifies images into {len(run.classes):,} classes. It was trained with carlt "
        f"{_plain((run.result.get('versions') or {}).get('carlt', 'of an unknown version'))}"
        + (f" at commit `{_code(commit[:12])}`" if isinstance(commit, str) else "")
        + f"; run `{_code(str(facts.get('run_hash'))[:8])}`, seed {run.seed}."
    )


def _use(facts: Mapping[str, Any], files: Sequence[str]) -> Iterator[str]:
    given, (_, channels, height, width) = facts["input"], facts["input"]["shape"]
    colours = "grey" if channels == 1 else "upright RGB"
    how = f"by the view `{_code(str(given['view']))}`"
    if given["shorter_side"]:
        how = f"scale the shorter side to {given['shorter_side']} pixels with antialiasing, then cut out the centre"
    yield f"Files: {', '.join(f'`{_code(name)}`' for name in files)}."
    yield ""
    yield f"- Input `images`: uint8 (N, {channels}, {height}, {width}), {colours}; {how}."
    yield f"- Output `logits`: float32 (N, {len(facts['class_names'])}); softmax gives probabilities."
    yield (
        "- The network normalises by itself. Class names, image size and normalisation are in each file's metadata "
        "under `carlt`, and in `network.json`."
    )
    if facts["output"]["adjusted"]:
        yield (
            "- The logits have the adjustment for rare classes that was found after training. The accuracies below are "
            "without it."
        )
    elif facts["class_offsets"] is not None:
        yield (
            "- `class_offsets` in `network.json` were found after training, one per class: add them to the logits to "
            "raise rare classes. The accuracies below are without them."
        )
    elif facts["tau"]:
        yield (
            "- `tau` in `network.json` was chosen on validation images: subtract tau * log(class_counts / their sum) "
            "from the logits to raise rare classes. The accuracies below are without it."
        )


def _data(run: Run) -> Iterator[str]:
    data, counts = run.result["data"], [row.train_count for row in run.classes]
    largest, smallest = max(counts), min(counts)
    many, medium, few = (sum(row.group == group for row in run.classes) for group in GROUPS)
    images = data.get("images")
    validation = images.get("val", "none") if isinstance(images, dict) else "unknown"
    yield f"- Data set: {_plain(data.get('name'))}; sha256 of its images and classes: `{_code(data.get('sha256'))}`"
    yield (
        f"- Training images: {sum(counts):,}; {largest:,} of the largest class, {smallest:,} of the smallest"
        + (f"; imbalance factor {largest / smallest:.3g}" if smallest else "")
    )
    yield f"- Many-, medium- and few-shot classes: {many:,}, {medium:,}, {few:,}"
    yield f"- Test images: {sum(row.test_count for row in run.classes):,}; validation images: {_plain(validation)}"


def _recipe(run: Run) -> Iterator[str]:
    yield "| part | choice | values that were set |"
    yield "|---|---|---|"
    for part in PARTS:
        values = [
            f"{key.removeprefix(part + '.')}={value}"
            for key, value in sorted(run.config.items())
            if key.startswith(f"{part}.") and "_target_" not in key and value not in ("None", "{}", "[]")
            if not is_under(key, (*CHANGE_NO_NUMBER, "data.lists"))
        ]
        choice = run.config.get(f"choices.{part}", "None")
        if choice != "None" or values:
            cells = ", ".join(f"`{_code(value)}`" for value in values)
            yield f"| {part} | {_plain(choice)} | {cells} |"
    hardware = run.result.get("hardware") or {}
    seconds = (run.result.get("timings") or {}).get("fit_s")
    yield ""
    yield (
        f"{run.result['epochs']} epoch{'s' if run.result['epochs'] != 1 else ''}, seed {run.seed}"
        + (f", {seconds:,.0f} s of training" if isinstance(seconds, int | float) else "")
        + f" on {_plain(hardware.get('devices', 1))} x {_plain(hardware.get('name', 'unknown hardware'))}. "
        + "Versions: "
        + ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in (run.result.get("versions") or {}).items())
        + "."
    )


def _accuracy(run: Run, metrics: Mapping[str, Any], which: str, best: Mapping[str, Any] | None) -> Iterator[str]:
    if best:
        yield f"On the test split, of the best epoch ({best['epoch'] + 1}, by {_plain(best['chosen_by'])}):"
    elif which == "last":
        yield f"On the test split, of the last epoch ({run.result['epochs']}):"
    else:
        yield (
            f"The files hold the checkpoint `{_code(which)}`, whose accuracy was not recorded. "
            "These are the numbers of the last epoch on the test split:"
        )
    yield ""
    yield "| | % |"
    yield "|---|---:|"
    for name, heading in METRICS.items():
        yield f"| {heading} | {percent(metrics.get(name))} |"


def _limits(run: Run, metrics: Mapping[str, Any], best: Mapping[str, Any] | None) -> Iterator[str]:
    rows = run.classes
    yield "The network assigns one of its classes to every image, even if the image shows none of them."
    yield (
        "The accuracies are of test images of the same source as the training images, from one training with one seed: "
        "other images, and other seeds, give other numbers."
    )
    if best and best.get("chosen_on_test"):
        yield "The epoch was chosen on the test split, so its numbers are too high."
    if untested := [row for row in rows if not row.test_count]:
        yield f"{_classes_have(untested)} no test image, so the accuracy is unknown: {_names(untested)}."
    if never := [row for row in rows if row.test_count and not row.correct]:
        yield f"{_classes_have(never)} no right answer in the test of the last epoch: {_names(never)}."
    if unsure := [row for row in rows if 0 < row.test_count < FEW_TESTS]:
        yield (
            f"{_classes_have(unsure)} fewer than {FEW_TESTS} test images, so the accuracy is a rough estimate: "
            f"{_names(unsure)}."
        )
    if few := [row for row in rows if row.group == "few"]:
        accuracy = f", and a mean accuracy of {percent(metrics.get('test/few'))} %"
        yield f"{_classes_have(few)} fewer than {FEW_BELOW} training images{accuracy}: {_names(few)}."
    yield (
        "Unless the loss corrected for them, the logits contain the class frequencies of the training images; correct "
        "them where classes have other frequencies."
    )
    if metrics.get("test/ece") is not None:
        yield (
            f"Its confidence differs from its accuracy by {percent(metrics['test/ece'])} points on average "
            "(expected calibration error on the test split)."
        )


def _classes(run: Run, which: str) -> Iterator[str]:
    if which != "last":
        yield "These are the accuracies of the last epoch, not of the exported one."
        yield ""
    yield "| class | training images | group | test images | accuracy, % |"
    yield "|---|---:|---|---:|---:|"
    for row in sorted(run.classes, key=lambda row: -row.train_count):
        cells = (_plain(row.class_name), f"{row.train_count:,}", _plain(row.group), f"{row.test_count:,}")
        yield f"| {' | '.join(cells)} | {percent(row.accuracy)} |"


def _classes_have(rows: Sequence[ClassResult]) -> str:
    return f"{len(rows):,} {'class has' if len(rows) == 1 else 'classes have'}"


def _names(rows: Sequence[ClassResult]) -> str:
    names = ", ".join(_plain(row.class_name) for row in rows[:NAMED])
    return names + (f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else "")


def _plain(value: Any) -> str:
    return markdown_text(str(value))


def _code(value: Any) -> str:
    """For a code span in a table, in which only ` and | have a meaning."""
    return str(value).replace("`", "'").replace("|", "\\|").replace("\n", " ")
