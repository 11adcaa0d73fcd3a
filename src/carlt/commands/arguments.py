"""argparse for commands whose options are written ``key=value``, as those of ``carlt.train`` are."""

import argparse
import difflib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, get_args

from carlt.commands.completion import Completer, answer_shell
from carlt.errors import CarltError, exit_with
from carlt.ranges import Count, Strength, describe_type, matches
from carlt.runs.paths import with_home

INTERRUPTED = 128 + 2
UNREAD = 128 + 13
"""The exit code of a command whose output nobody reads on, as a shell gives it for SIGPIPE."""


@contextmanager
def command(name: str) -> Iterator[None]:
    """The block of a command: a user's mistake ends it with one message and exit code 2, and output that nobody reads
    on, as in ``| head``, ends it without a word."""
    if sys.stdout is None:  # closed by the shell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # a letter that the terminal's encoding lacks ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except CarltError as error:
        exit_with(name, error)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _forget_output()
        raise SystemExit(UNREAD) from None
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
        _forget_output()
        exit_with(name, CarltError(f"the output cannot be written ({error.strerror}); send it to another place"))


def _forget_output() -> None:
    """What standard output still holds goes nowhere: Python writes it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def reword_argparse_error(message: str) -> str:
    """A message of argparse's in the form of all others: the value, then what is wrong with it.

    >>> reword_argparse_error("argument --cfg/-c: invalid choice: 'foo' (choose from 'job', 'all')")
    '--cfg foo: choose from job, all'
    >>> reword_argparse_error("argument --out: expected one argument")
    '--out has no value'
    """
    text = re.sub(r"^argument ([^:/\s]+)(/\S+)?: ", r"\1: ", message)
    if wrong := re.fullmatch(r"(\S+): invalid choice: '(.*)' \(choose from (.*)\)", text):
        return f"{wrong[1]} {wrong[2]}: choose from {wrong[3]}".replace("'", "")
    if wrong := re.fullmatch(r"(\S+): expected one argument", text):
        return f"{wrong[1]} has no value"
    if wrong := re.fullmatch(r"unrecognized arguments: (.*)", text):
        return f"there is no option {wrong[1]}"
    return text


def _number(kind: Any) -> Callable[[str], Any]:
    """What reads a number of a type of ``carlt.ranges``, for ``add_key(type=...)``."""
    plain = get_args(kind)[0]  # int or float

    def converted(text: str) -> Any:
        with suppress(ValueError):
            if matches(value := plain(text), kind):
                return value
        raise argparse.ArgumentTypeError(f"{text}: expected {describe_type(kind)}")

    return converted


strength, count = _number(Strength), _number(Count)


def _not_empty(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def converted(text: str) -> Any:
        if not text:
            raise argparse.ArgumentTypeError("has no value")
        return convert(text)

    return converted


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows options as they are written: ``run=<folder>``."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.option_strings and not {"-h", "--config-dir"} & set(action.option_strings):
            choices = "|".join(map(str, action.choices)) if action.choices else action.metavar
            return f"{action.dest}={choices}"
        return super()._format_action_invocation(action)


class Parser(argparse.ArgumentParser):
    """A parser of ``key=value`` words; ``--key value`` is accepted too. A mistake is one line and exit code 2.

    Args:
        command: the name of the command, e.g. ``carlt.evaluate``.
        usage, description, epilog: for ``--help``.
    """

    def __init__(self, command: str, *, usage: str, description: str, epilog: str = ""):
        super().__init__(
            prog=command,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        self.keys: list[str] = []
        self.flags: list[str] = []
        self.other_words: Completer | None = None
        """Completes words that are no option of this parser."""

    def add_key(self, name: str, metavar: str = "<value>", **options: Any) -> None:
        """Add an option ``name=...``, whose value is not empty; ``options`` are those of
        ``argparse.ArgumentParser.add_argument``."""
        self.keys.append(name)
        options["type"] = _not_empty(options.get("type", str))
        self.add_argument(f"--{name}", metavar=None if options.get("choices") else metavar, **options)

    def add_flag(self, name: str, help: str) -> None:
        """Add an option ``name=true`` or ``name=false``, a bool after parsing; false by default."""
        self.flags.append(name)
        self.add_key(name, choices=("true", "false"), default="false", help=help)

    def add_run(self, contents: str) -> None:
        """Add ``run=``, ``which=`` and ``trust=``: the network of a run, whose folder holds ``contents``."""
        self.add_key("run", "<folder>", help=f"the run folder: it holds {contents} and checkpoints/")
        self.add_key("which", "last|best|<file>", default="last", help="the last epoch (default), the best epoch, or "
                     "a checkpoint file")  # fmt: skip
        self.add_flag("trust", "load classes that are not carlt's own. That runs their code: only for folders that "
                      "you made")  # fmt: skip

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """The options of ``words``, and under ``words`` those that are no option, in their order.

        Without any word the help is printed, and the process ends.
        """
        words = [with_home(word) for word in words]
        self.add_argument("words", nargs="*", help=argparse.SUPPRESS)
        answer_shell(self, "words", self._complete)
        if not words:
            self.print_help()
            raise SystemExit(0)
        given = [name for word in words if (name := word.partition("=")[0]) in self.keys and "=" in word]
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise CarltError(f"{twice[0]}= is given {given.count(twice[0])} times; give it once")
        known = [f"--{word}" if word.partition("=")[0] in self.keys and "=" in word else word for word in words]
        found = self.parse_intermixed_args(known)
        for name in self.flags:
            setattr(found, name, getattr(found, name) == "true")
        return found

    def _complete(self, word: str, before: Sequence[str]) -> Iterator[str]:
        key, equals, _ = word.partition("=")
        values = {action.dest: action.choices or () for action in self._actions}
        if equals and key in self.keys:
            own = [f"{key}={choice}" for choice in values[key]]
        else:
            own = [f"{each}=" for each in self.keys]
        yield from (each for each in own if each.startswith(word))
        if self.other_words is not None and not (equals and key in self.keys):
            yield from self.other_words(word, before)

    def refuse(self, word: str) -> NoReturn:
        """CarltError for a word that is no option."""
        name = word.partition("=")[0].lstrip("-")
        near = difflib.get_close_matches(name, self.keys, 1)
        known = ", ".join(f"{key}=" for key in self.keys)
        raise CarltError(
            f"{word!r} is none of {known}" + (f"; did you mean {near[0]}=?" if near else "; --help shows the usage")
        )

    def error(self, message: str) -> NoReturn:
        text = reword_argparse_error(message)
        if found := re.fullmatch(rf"--({'|'.join(self.keys)}):? (.*)", text, re.DOTALL):
            text = f"{found[1]}={' ' * found[2].startswith('has ')}{found[2]}"
        raise CarltError(f"{text}; --help shows the usage")
