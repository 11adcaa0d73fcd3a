"""Names from a stranger's run: terminal, page, Markdown, LaTeX and CSV show them and obey none of them."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.conftest import Command, MakeRun

HOSTILE = [
    '=HYPERLINK("http://x")', "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "<script>alert(1)</script>",
    "<img src=x onerror=y>", "\x1b[2J\x1b]0;title\x07red", "two\nlines\r\x85\u2028three", "right\u202eleft",
    "\\input{/etc/passwd}", "$x_1^2$ 100% #1 ~&{}", "a|b", "[link](javascript:x)", "`code` **bold** ![x](y)", "'", "",
    "\x00", "\udc80", "a" * 300,
]  # fmt: skip
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\ud800-\udfff]")


@pytest.fixture
def shown(make_run: MakeRun, tmp_path: Path, command: Command, monkeypatch) -> dict[str, str]:
    """What the command writes, by file name; what it prints under ``out`` and ``err``."""
    runs, names = Path("runs"), HOSTILE
    for seed in (0, 1):
        for reg in ("none", *names[:14]):
            folder = f"{HOSTILE.index(reg) if reg in HOSTILE else reg}{seed}"
            make_run(str(runs / folder), seed, 0.5, reg, classes=len(names), class_names=names, data="=1+1 <b>|\x1b[2J")
    make_run(str(runs / "\x1b[2J\udce9"), 2, classes=len(names), class_names=names, data="=1+1 <b>|\x1b[2J")
    (tmp_path / runs / "=<script>\x1b[2J").mkdir()
    (tmp_path / runs / "=<script>\x1b[2J" / "config.yaml").write_text("a: 1")
    monkeypatch.setattr("carlt.commands.report.drawings", lambda *_: {})
    _, out, err = command("report", tmp_path / runs, f"out={tmp_path / 'out'}")
    written = {path.name: path.read_bytes().decode() for path in (tmp_path / "out").iterdir()}
    return {"out": out, "err": err, **written}


def test_nothing_has_control_characters(shown: dict[str, str]) -> None:
    assert {"out", "err", "report.html", "tables.md", "tables.tex", "tables.csv", "classes.csv"} <= shown.keys()
    for name, text in shown.items():
        page_of_ours = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", text, flags=re.DOTALL)
        assert not CONTROL.search(page_of_ours), name


def test_no_cell_is_a_formula(shown: dict[str, str]) -> None:
    for name in ("tables.csv", "seeds.csv", "classes.csv"):
        for row in csv.reader(shown[name].splitlines()):
            for cell in row:
                assert not cell.lstrip().startswith(("=", "+", "@")), (name, cell)
                assert not cell.startswith("-") or float(cell) < 0, (name, cell)


def test_the_page_has_no_tag_of_theirs(shown: dict[str, str]) -> None:
    tags: list[tuple[str, dict]] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))  # type: ignore[method-assign]
    reader.feed(shown["report.html"])
    assert [attributes for tag, attributes in tags if tag == "script"] == [{}]
    assert not {"img", "b", "iframe"} & {tag for tag, _ in tags}
    assert not any(
        key.startswith("on") or str(value).startswith("javascript:") for _, a in tags for key, value in a.items()
    )


def test_markdown_shows_them_as_text(shown: dict[str, str]) -> None:
    for line in shown["tables.md"].splitlines():
        assert not re.search(r"(?<!\\)<\w|(?<!\\)\]\(|(?<!\\)`", line), line
    rows = [line for line in shown["tables.md"].splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_latex_obeys_none_of_them(shown: dict[str, str]) -> None:
    assert r"\input" not in shown["tables.tex"]
    assert r"\textbackslash{}input" in shown["tables.tex"]
    assert not re.search(r"(?<!\\)[#&%$]1", shown["tables.tex"])
