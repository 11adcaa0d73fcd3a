"""What a stranger's pickle would cost, read without building anything of it."""

import io
import pickletools
from typing import Any, BinaryIO

from carlt.errors import CarltError

MAX_LEAVES = 10_000
"""Of a tuple: its hash visits each, and tuples within tuples that share their parts double with every level."""
AMPLIFIERS = ("builtins bytearray", "__builtin__ bytearray")
"""Callables that take a length: ten bytes of a pickle ask for all memory."""
STACK_TRICKS = ("POP", "POP_MARK", "DUP")
"""What no file of images or weights needs, and the count of leaves does not follow."""


def check_pickle(file: BinaryIO | bytes) -> None:
    """Read one pickle from ``file`` to its end.

    Raises:
        CarltError: it would take far more memory or time than its size suggests.
        Exception: whatever ``pickletools`` raises on a damaged pickle.
    """
    leaves: list[int] = []  # on the stack of a reader: of each object the leaves that its hash visits
    marks: list[int] = []  # where the reader's marks lie on that stack
    memo: dict[int, int] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(io.BytesIO(file) if isinstance(file, bytes) else file):
        name = opcode.name
        if name == "GLOBAL" and argument in AMPLIFIERS:
            raise CarltError(f"it calls {argument.replace(' ', '.')}")
        if name in STACK_TRICKS:
            raise CarltError(f"it has {name}, which no data need")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = leaves[-1]
            continue
        if name in ("GET", "BINGET", "LONG_BINGET"):
            leaves.append(memo[argument])
            continue
        if name == "MARK":
            marks.append(len(leaves))
            continue
        before = opcode.stack_before
        if pickletools.markobject in before:
            start = marks.pop()
            kept = start - before.index(pickletools.markobject)  # some also take what lies below the mark
        else:
            start = kept = len(leaves) - len(before)
        size = 1 + sum(leaves[start:]) if "TUPLE" in name else 1
        del leaves[kept:]
        if size > MAX_LEAVES:
            raise CarltError(f"it holds a tuple of more than {MAX_LEAVES:,} parts")
        leaves += [size] * len(opcode.stack_after)
