"""The report page in headless Chromium: what it shows, that its tables work, and that it reports no error."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from carlt.reporting.figures import drawings
from carlt.reporting.groups import group_by_data_set
from carlt.reporting.page import Section, page
from carlt.reporting.summary import summarize
from carlt.runs.reading import read_runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)")
WIDTHS = (400, 1600)
PAPER = 957
"""The width of a sheet of A4 within its margins, 718 pixels, times 4/3: browsers shrink what is wider by so much."""
USE = """<script>
const table = document.querySelector("table.data");
const column = (i) => [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[i].textContent);
const button = (i) => table.tHead.rows[0].cells[i].querySelector("button");
const search = document.querySelector("input[type=search]");
const find = (text) => { search.value = text; search.dispatchEvent(new Event("input")); return column(0); };
const overall = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === "overall");
const found = { widths: {} };
button(overall).click(); found.down = column(overall);
button(overall).click(); found.up = column(overall);
button(0).click(); found.names = column(0);
found.word = find("car"); found.more = find("overall>60"); found.nothing = find("nothing"); found.all = find("");
const copy = document.querySelector("details.text button"); copy.click();
found.copies = document.querySelectorAll("details.text button").length;
found.sticky = getComputedStyle(table.rows[1].cells[0]).position;
found.hover = document.querySelectorAll("svg title").length;
for (const each of document.querySelectorAll("details")) each.open = true;
const focus = [...document.querySelectorAll("th button, input, .wide, summary")];
found.focus = focus.length;
const reached = (each) => { each.focus(); return document.activeElement === each; };
found.unreached = focus.filter((each) => !reached(each)).map((each) => each.outerHTML.slice(0, 80));
for (const width of WIDTHS) { // no window of Chromium is below 500 pixels
  document.documentElement.style.width = width + "px";
  const captions = [...document.querySelectorAll(".wide caption span")].map((each) => each.offsetWidth);
  found.widths[width] = [document.body.scrollWidth, Math.max(...captions)];
}
const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]).filter((rule) => rule.media);
for (const rule of rules) if (rule.media.mediaText === "print") rule.media.mediaText = "all";
document.documentElement.style.width = "718px";
const parts = [...document.querySelectorAll("table, svg")];
const cut = parts.filter((each) => each.getBoundingClientRect().right > PAPER);
found.cut = cut.map((each) => each.textContent.slice(0, 80));
document.body.append(Object.assign(document.createElement("output"), { textContent: JSON.stringify(found) }));
</script>"""


@pytest.fixture(scope="module")
def html(make_runs_in, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs")
    make_run = make_runs_in(folder)
    for seed in range(3):
        make_run(f"none{seed}", seed, 0.5 + 0.05 * seed)
        make_run(f"car{seed}", seed, 0.8, "car", class_names=["a", "b", "c"])
        make_run(f"other{seed}", seed, 0.7, "confidence_penalty_of_a_name_as_long_as_those_of_some_settings")
    (data,) = group_by_data_set(read_runs([folder])[0])
    figures = [figure for draw in drawings(data, data.baseline(), "d0").values() if (figure := draw())]
    return page([Section(data, summarize(data, data.baseline()), figures, [])], [], "Written.")


def chromium(*options: str) -> subprocess.CompletedProcess:
    assert CHROMIUM is not None
    return subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
         *options],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def used(html: str, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The page after its tables were used, as seen by a script that the page's policy would refuse."""
    folder = tmp_path_factory.mktemp("used")
    path = folder / "used.html"
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    path.write_text(html.replace("</body>", USE.replace("WIDTHS", str(list(WIDTHS))).replace("PAPER", str(PAPER))))
    done = chromium(f"--user-data-dir={folder / 'profile'}", "--window-size=1600,900", "--dump-dom", path.as_uri())
    assert "CONSOLE" not in done.stderr
    return json.loads(unescape(re.findall("<output>(.*)</output>", done.stdout)[0]))


def test_tables_sort_filter_and_copy(used: dict) -> None:
    assert [float(text.split()[0]) for text in used["down"]] == [80, 70, 55]
    assert [float(text.split()[0]) for text in used["up"]] == [55, 70, 80]
    assert used["names"] == sorted(used["names"], reverse=True)
    assert used["word"] == ["reg=car"]
    assert sorted(used["more"]) == ["reg=car", "reg=confidence_penalty_of_a_name_as_long_as_those_of_some_settings"]
    assert used["nothing"] == []
    assert len(used["all"]) == 3
    assert used["copies"] == 2
    assert used["sticky"] == "sticky"
    assert used["hover"] > 10


def test_everything_is_reached_by_keyboard(used: dict) -> None:
    assert used["focus"] > 20
    assert used["unreached"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_only_tables_and_plots_scroll_sideways(used: dict, width: int) -> None:
    page_width, caption = used["widths"][str(width)]
    assert page_width <= width
    assert caption < width


def test_no_table_or_plot_is_wider_than_paper(used: dict) -> None:
    assert used["cut"] == []


def screenshot(html: str, tmp_path: Path) -> Image.Image:
    path, picture = tmp_path / "report.html", tmp_path / "page.png"
    path.write_text(html)
    done = chromium(
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,3000", f"--screenshot={picture}",
        path.as_uri(),
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    return Image.open(picture).convert("L")


def contrasts(image: Image.Image) -> list[bool]:
    """Whether each part of the page shows something."""
    bands = [image.crop((0, top, 900, top + 500)).getextrema() for top in range(0, 3000, 500)]
    return [high - low > 100 for low, high in bands]


def test_without_script_everything_is_there_to_read(html: str, tmp_path: Path) -> None:
    bare, removed = re.subn("<script>.*</script>", "", html, flags=re.DOTALL)
    assert removed == 1
    image = screenshot(bare, tmp_path)
    assert image.size == (900, 3000)
    assert all(contrasts(image))


def test_a_screenshot_has_the_size_of_the_window_and_holds_the_page(html: str, tmp_path: Path) -> None:
    image = screenshot(html, tmp_path)
    assert image.size == (900, 3000)
    assert all(contrasts(image))


def test_the_page_prints_on_several_sheets(html: str, tmp_path: Path) -> None:
    path, paper = tmp_path / "report.html", tmp_path / "page.pdf"
    path.write_text(html)
    done = chromium(f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={paper}", path.as_uri())
    assert "CONSOLE" not in done.stderr
    assert paper.read_bytes().count(b"/Type /Page\n") > 2
