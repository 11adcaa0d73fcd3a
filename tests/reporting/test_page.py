import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from carlt.reporting.figures import Figure, Listing
from carlt.reporting.groups import group_by_data_set
from carlt.reporting.page import Section, page
from carlt.reporting.published import Published
from carlt.reporting.summary import summarize
from carlt.runs.reading import LeftOut, read_runs

VOID = {"meta", "link", "br", "img", "hr"}


class Reader(HTMLParser):
    """Tags with their attributes, and whether they nest."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def text(make_run, tmp_path: Path) -> str:
    make_run("1", accuracy=0.5)
    make_run("2", accuracy=0.7, reg="<script>&")
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    known = [Published("A <b>", "ViT", {"test/accuracy": "51.85"}, {"test/accuracy": "books & papers"})]
    listing = Listing("<i>pairs", ("a", "b"), [("<u>cat", "dog & co")])
    figure = Figure("Plot <1>", "what & why.", 'a "quoted" <alt>', '<svg viewBox="0 0 1 1"></svg>', [listing])
    section = Section(data, summarize(data, data.baseline(), known), [figure], ["reliability"])
    return page([section], [LeftOut(Path("/x/<y>"), "not & finished")], "Written <now>")


def test_everything_is_escaped_and_nested(text: str) -> None:
    reader = Reader(text)
    assert reader.open == []
    assert not {"b", "i", "u", "y", "now", "alt", "1"} & {tag for tag, _ in reader.tags}
    for part in ("reg=&lt;script&gt;&amp;", "A &lt;b&gt;", "&lt;u&gt;cat", "dog &amp; co", "not &amp; finished"):
        assert part in text


def test_options_that_no_label_has_are_named(text: str) -> None:
    assert "Common to all: loss=ce." in text


def test_the_page_needs_nothing_else(text: str) -> None:
    tags = Reader(text).tags
    assert [attributes for tag, attributes in tags if tag == "script"] == [{}]
    for tag, attributes in tags:
        assert tag not in ("link", "iframe", "img")
        assert not {"src", "onload"} & attributes.keys()
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in text


def test_every_entry_of_the_contents_leads_somewhere(text: str) -> None:
    tags = Reader(text).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    links = [attributes["href"][1:] for tag, attributes in tags if tag == "a"]
    assert len(set(ids)) == len(ids)
    assert links == ["d0", "d0t", "d0f0", "d0r", "left-out"]
    assert set(links) <= set(ids)


def test_plots_speak_to_those_who_do_not_see_them(text: str) -> None:
    (svg,) = [attributes for tag, attributes in Reader(text).tags if tag == "svg"]
    assert svg["role"] == "img"
    assert svg["aria-label"] == 'a "quoted" <alt>'


def test_best_in_bold_and_published_as_such(text: str) -> None:
    assert "<td><strong>70.0</strong></td>" in text
    assert "<td>50.0</td>" in text
    row = text[text.index('<tr class="published">') :]
    row = row[: row.index("</tr>")]
    assert "A &lt;b&gt; (ViT), published" in row
    assert "<td>51.85</td>" in row
    assert "strong" not in row
    assert "Published, not measured here: books &amp; papers." in text


def test_no_script_but_the_page_s_own_may_run(text: str) -> None:
    (policy,) = [a["content"] for _, a in Reader(text).tags if a.get("http-equiv") == "Content-Security-Policy"]
    script = text[text.index("<script>") + len("<script>") : text.index("</script>")]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


def test_each_class_has_its_accuracy_and_its_gain(text: str) -> None:
    table = text[text.index("<summary>3 classes") :]
    head, *rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", table)[:4]]
    assert head == ["class", "group", "training images", "reg=none", "reg=&lt;script&gt;&amp;",
                    "gain of reg=&lt;script&gt;&amp;"]  # fmt: skip
    assert rows == [  # the rarest first; of 10 images, 10 * accuracy * (1 - class / 6) are right
        ["class 2", "few", "2", "30.0", "50.0", "+20.0"],
        ["class 1", "medium", "20", "40.0", "60.0", "+20.0"],
        ["class 0", "many", "200", "50.0", "70.0", "+20.0"],
    ]


def test_tables_are_there_to_copy(text: str) -> None:
    pre = text[text.index("<pre>") :]
    assert r"\begin{tabular}" in pre[: pre.index("</pre>")]
    assert "| configuration | n |" in text
