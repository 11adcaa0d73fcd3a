"""Text from class names, configs and folders in a form that terminals, tables and spreadsheets show as it is."""

import logging
import shlex
import unicodedata

FORMULA = ("=", "+", "-", "@")


def get_logger(name: str) -> logging.Logger:
    """The logger of a module of carlt: what it says may hold a stranger's names, and is made ``printable``."""
    log = logging.getLogger(name)
    log.addFilter(_make_printable)
    return log


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def printable(text: str) -> str:
    r"""``text`` with control, direction, line-separating and surrogate characters written out.

    >>> printable("a\x1b[31m\rb")
    'a\\x1b[31m\\rb'
    """
    return "".join(
        letter.encode("unicode_escape").decode("ascii")
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else letter
        for letter in text
    )


def shortened(text: str, letters: int) -> str:
    """``text`` in printable form, cut in its middle to ``letters``, so that its end still tells it from others.

    >>> shortened("Felis silvestris lybica", 15)
    'Felis s...ybica'
    """
    text, end = printable(text), letters // 3
    return text if len(text) <= letters else f"{text[: letters - end - 3]}...{text[-end:]}"


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number of things in words.

    >>> counted(1, "image"), counted(1200, "image"), counted(2, "class", "classes")
    ('1 image', '1,200 images', '2 classes')
    """
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def spreadsheet_cell(text: str) -> str:
    """``text`` for a CSV file: an apostrophe in front of what a spreadsheet would take for a formula.

    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("pond")
    ("'=1+1", 'pond')
    """
    return "'" + text if text.lstrip("'").startswith(FORMULA) else text


def from_spreadsheet_cell(text: str) -> str:
    """The inverse of :func:`spreadsheet_cell`.

    >>> from_spreadsheet_cell("'=1+1")
    '=1+1'
    """
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def command_line(module: str, *words: str) -> str:
    """The command ``python -m <module> <words>``, quoted for a shell.

    >>> command_line("carlt.train", "resume=my runs/a")
    "python -m carlt.train 'resume=my runs/a'"
    """
    return shlex.join(["python", "-m", module, *words])


def format_duration(seconds: float) -> str:
    """A rough duration in words: about 40 s, about 12 min, about 3.5 h."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
