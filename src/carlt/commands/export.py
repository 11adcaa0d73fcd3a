"""``python -m carlt.export run=<run folder> format=onnx``: the network of a run as one file, with a model card."""

import json
import sys
from pathlib import Path
from typing import Any

from carlt.commands.arguments import Parser, command
from carlt.errors import CarltError
from carlt.runs.faults import write_errors
from carlt.runs.locks import claim_folder
from carlt.runs.paths import file_digest, read_text, write_text_atomic
from carlt.runs.text import printable

NAME = "carlt.export"
FACTS, CARD = "network.json", "MODEL_CARD.md"
CARD_DIGEST = "model_card_sha256"
FORMATS = ("onnx", "torch_export", "safetensors")


def parser() -> Parser:
    """The options of the command."""
    found = Parser(
        NAME,
        usage="python -m carlt.export run=<run folder> format=onnx|torch_export|safetensors [key=value ...]",
        description="""Write the network of a run for other programs, read the file again and compare its logits with
the network's.

The folder out= then holds network.onnx, network.pt2 or network.safetensors; network.json with class names, image size,
normalisation and what input and output are (also in the file's own metadata, under carlt); and MODEL_CARD.md on data,
recipe, the accuracy of each class and limits. The input is uint8 images (N, channels, S, S): the network normalises by
itself. The output is logits. The number of images is free.""",
        epilog="onnx needs the packages onnx, onnxscript and onnxruntime, safetensors the package of that name:\n"
        "pip install 'carlt[export]'.",
    )
    found.add_run("config.yaml, result.json")
    found.add_key("format", choices=FORMATS, help="onnx: for onnxruntime and others; torch_export: for "
                  "torch.export.load, without carlt; safetensors: the weights, for model.weights=")  # fmt: skip
    found.add_flag("adjusted", "the logits are those after carlt.evaluate posthoc=car or posthoc=logit_adjusted, which "
                   "recognise more of the rare classes")  # fmt: skip
    found.add_key("out", "<folder>", help="default: export/ in the run folder")
    return found


def main() -> None:
    """The command."""
    with command(NAME):
        options = parser()
        arguments = options.parse_words(sys.argv[1:])
        for word in arguments.words:
            options.refuse(word)
        if not arguments.run:
            raise CarltError("run=<run folder> is missing; --help shows the usage")
        if not arguments.format:
            raise CarltError(f"format= is missing: choose from {', '.join(FORMATS)}")
        folder = Path(arguments.run)
        out = Path(arguments.out) if arguments.out else folder / "export"
        with write_errors(out, "choose another out=<folder>"):
            export(folder, arguments.format, out, arguments.which, arguments.adjusted, trust=arguments.trust)


def export(
    folder: Path, form: str, out: Path, which: str = "last", adjusted: bool = False, *, trust: bool = False
) -> None:
    """Write the network, ``network.json`` and ``MODEL_CARD.md`` into ``out``.

    Raises:
        CarltError: no finished run, a missing package, a network that cannot be written in this form, another one in
            ``out``, or ``adjusted`` and no adjustment on record.
    """
    from carlt.evaluation.export import export as write
    from carlt.evaluation.export import facts_of, network_file
    from carlt.evaluation.load import load_run
    from carlt.reporting.model_card import model_card
    from carlt.runs.reading import read_run

    run = load_run(folder, which, trust=trust)
    facts, finished = facts_of(run, adjusted), read_run(folder)
    with claim_folder(out, new=False, option="out=<folder>"):
        before = _earlier_facts(out, facts)
        digest = before.get(CARD_DIGEST)
        if not before and (place := network_file(out, form)).exists():
            raise CarltError(
                f"{place} is not of {NAME}: no {FACTS} lies beside it; choose another out=<folder>, or move it"
            )
        path, difference = write(run, form, out, facts)
        files = sorted({each.name for each in out.glob("network.*") if not each.name.endswith(".part")} | {FACTS})
        card = model_card(finished, facts, which, files)
        edited = (out / CARD).exists() and digest != file_digest(out / CARD)
        if not edited:
            write_text_atomic(out / CARD, card)
            digest = file_digest(out / CARD)
        write_text_atomic(out / FACTS, json.dumps(facts | {CARD_DIGEST: digest}, indent=2) + "\n")
        print(printable(f"{path}: logits within {difference:.1g} of the network's"))
        kept = f" (kept as it is, because {NAME} did not write it; remove it for a new one)" if edited else ""
        print(printable(f"beside it: {FACTS}, {CARD}{kept} in {out}"))


def _earlier_facts(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """``network.json`` of ``out``, empty if there is none. CarltError if it is of another network: one describes all
    files of the folder."""
    try:
        before = json.loads(read_text(out / FACTS))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        before = None
    if not isinstance(before, dict) or before.get("checkpoint_sha256") != facts["checkpoint_sha256"]:
        raise CarltError(f"{out} holds the export of another checkpoint; choose another out=<folder>, or remove it")
    output, adjusted = before.get("output"), facts["output"]["adjusted"]
    if adjusted != (isinstance(output, dict) and output.get("adjusted", False)):
        raise CarltError(
            f"{out} holds an export with adjusted={'false' if adjusted else 'true'}; choose another out=<folder>, or "
            "remove it"
        )
    return before


if __name__ == "__main__":
    main()
