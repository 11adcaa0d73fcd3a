"""A command whose output goes to a file or a pipe is never silent for long."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from carlt.runs.text import format_duration

EVERY_S = 25.0
"""A long step of the network may delay a line by some seconds; a reader waits for half a minute at most."""

# A process has one standard output.
_spoken = 0.0
_watched = False


def say(text: str) -> None:
    """Print a line at once."""
    global _spoken
    _spoken = time.monotonic()
    print(text, flush=True)


@contextmanager
def heartbeat(name: str = "", every_s: float = EVERY_S) -> Iterator[None]:
    """While the block runs, say on standard error that it does after each ``every_s`` seconds without a line of
    ``say``: standard output may be what a program reads.

    Nothing is printed in a terminal, which has progress bars, nor by a block within such a block. ``name`` begins each
    line.
    """
    global _watched
    if _watched or sys.stdout.isatty():
        yield
        return
    _watched = True
    began = time.monotonic()
    done = threading.Event()

    def watch() -> None:
        wait = every_s
        while not done.wait(wait):
            now = time.monotonic()
            wait = every_s - (now - max(_spoken, began))
            if wait <= 0:
                wait = every_s
                with suppress(OSError):  # nobody reads on, which the block learns itself
                    text = f"{name}still running, {format_duration(now - began)} since the start"
                    print(text, file=sys.stderr, flush=True)

    thread = threading.Thread(target=watch, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        _watched = False
        done.set()
        thread.join()
