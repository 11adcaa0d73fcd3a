"""The documentation is true: its Python runs, its commands compose, its links lead somewhere, the notebook runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carlt.config.overrides import compose_checked, sweep_overrides
from carlt.config.schema import validate

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    found = [line.partition("  #")[0].strip() for line in lines if line.startswith("python -m carlt.train ")]
    return sorted({line for line in found if "<" not in line and "--" not in line})


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 15


@pytest.mark.parametrize("command", commands())
def test_a_command_composes_and_fits_its_constructors(command: str) -> None:
    words = shlex.split(command)[3:]
    if "-m" in words:
        sweep_overrides("train", [word for word in words if word != "-m"])
    else:
        validate(compose_checked("train", words))


@pytest.mark.parametrize("page", ["README.md", "docs/tutorials/python.md"])
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_plots: None) -> None:
    monkeypatch.chdir(tmp_path)
    (first, *_) = blocks(ROOT / page, "python")
    for block in blocks(ROOT / page, "python"):
        namespace: dict[str, Any] = {}
        exec(compile(block, page, "exec"), namespace)
    assert ").to(device)  " in first or ").to(device)\n" in first  # CAR has buffers


def test_the_loss_of_the_tutorial_passes_the_checks() -> None:
    from carlt.testing import check_loss

    namespace: dict[str, Any] = {"__name__": "tutorial"}
    (block, *_) = blocks(ROOT / "docs/tutorials/add_a_method.md", "python")
    exec(compile(block, "add_a_method.md", "exec"), namespace)
    check_loss(namespace["MyLoss"], temperature=2.0)


def test_links_lead_to_files() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "reg" / "index.html").read_text()
    assert "class_counts" in page
    assert re.search(r"<code>C\^_t .*lambda_j = ", page, re.DOTALL)  # a formula keeps its lines
    assert not re.search(r"<em>(?!required)", page)
    assert not re.search(r"(?:src|href)=.https?://[^\"]*\.(?:css|js|woff)", page)  # nothing is fetched


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "docs/tutorials/first_run.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("test/worst_class" in str(output) for output in outputs)
    shown = [output.data for output in outputs if output.output_type == "display_data"]
    (bar,) = (data for data in shown if "5/5" in data["text/plain"])  # one bar, which was updated
    assert "5/5" in bar["text/html"]
