"""Renders docstrings, which are written for a terminal, as Markdown: formulas and examples become code blocks."""

import re
from typing import Any

import griffe

FORMULA = re.compile(r"^\S[^.]{0,28}? (=|~|:) ")


def as_markdown(text: str) -> str:
    r"""``text`` with code blocks for formulas and examples, and without accidental emphasis.

    >>> print(as_markdown("The sum of x_i and y_i.\n\nx_i = 1\ny_i = 2"))
    The sum of x\_i and y\_i.
    <BLANKLINE>
        x_i = 1
        y_i = 2
    """
    return "\n\n".join(map(_paragraph, re.split(r"\n\s*\n", text)))


def _paragraph(text: str) -> str:
    lines = text.split("\n")
    if text.startswith(">>>") or (len(lines) > 1 and all(map(FORMULA.match, lines))):
        return "\n".join("    " + line for line in lines)
    return "\n".join(map(_line, lines))


def _line(line: str) -> str:
    """Escape _ and * outside of code; the names of arguments stay as they are."""
    name = re.match(r"^\s+[\w, ]+: ", line)
    start = name.end() if name else 0
    parts = re.split(r"(``[^`]*``)", line[start:])
    return line[:start] + "".join(p if p.startswith("``") else re.sub(r"([_*])", r"\\\1", p) for p in parts)


class Docstrings(griffe.Extension):
    """Applies ``as_markdown`` to every docstring of the reference."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
