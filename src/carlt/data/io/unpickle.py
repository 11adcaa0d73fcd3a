"""Read the pickles of the CIFAR archives without executing them: only harmless replacements are built."""

import io
import pickle
from typing import Any

import numpy as np

from carlt.errors import CarltError, first_line
from carlt.runs.pickles import check_pickle


class _Array:
    """Takes the place of a NumPy array and keeps the state that the pickle holds."""

    def __init__(self, *_: Any):
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran_order, data = state
        if dtype.code.lstrip("|") != "u1" or not isinstance(data, bytes):
            raise pickle.UnpicklingError(f"holds an array of {dtype.code} where bytes are due")
        self.array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran_order else "C")


class _Dtype:
    """Takes the place of a NumPy dtype and keeps its code, ``u1`` for uint8."""

    def __init__(self, code: str | bytes, *_: Any):
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: tuple) -> None: ...


def _encode(text: str, _codec: str | bytes) -> bytes:
    """How Python 3 writes bytes into a protocol-2 pickle."""
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"names {module}.{name}, which image data does not need")
        return _STAND_INS[module, name]


def read_pickle(data: bytes, where: str, *, published: bool = False) -> dict[bytes, Any]:
    """The dictionary pickled in ``data``: lists, numbers, bytes, uint8 arrays; CarltError names ``where`` otherwise.

    ``published``: its digest is that of a published file, so what it costs is known.
    """
    try:
        if not published:
            check_pickle(data)
        entries = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        return {
            key.encode() if isinstance(key, str) else key: value.array if isinstance(value, _Array) else value
            for key, value in entries.items()
        }
    except Exception as error:  # a damaged pickle can fail in any way; one with a huge length has a MemoryError
        raise CarltError(
            f"{where} is not a CIFAR batch: {first_line(error)}; remove it and prepare the data again"
        ) from None
