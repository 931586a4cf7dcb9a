"""Reading a pickle that someone else wrote, without running any of it.

A pickle is a program: it may import and call anything. REFER's annotations come as pickles of lists, dicts, strings and
numbers, so everything else is refused here before it is looked up.
"""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

from jmceln_core.data.grounding import DataError


class _Encode:
    """What old protocols call to make bytes: text whose characters are the bytes. Holds nothing a pickle could set."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str = "latin-1") -> bytes:
        return text.encode("latin-1")


# What no opcode of the old protocols makes; Python 2 called the module __builtin__.
_PLAIN: dict[tuple[str, str], Any] = {
    (module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, frozenset, bytes)
} | {("_codecs", "encode"): _Encode()}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _PLAIN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object stored elsewhere")


def _as_latin1(error: UnicodeError) -> tuple[str, int]:
    """Decoding's error handler: bytes that are not UTF-8 are Latin-1."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("jmceln.latin1", _as_latin1)


def load_plain(path: str | Path) -> Any:
    """The value in a pickle file made of dict, list, tuple, set, str, bytes, int, float, bool and None alone.

    Any protocol. Python 2's 8-bit strings become str: UTF-8, and Latin-1 where they are not.
    Raises DataError naming the file, and what it asks for if that is anything else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="utf-8", errors="jmceln.latin1").load()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except Exception as error:  # a broken pickle can fail in any way
        raise DataError(
            f"{path}: not a pickle of plain lists, dicts, strings and numbers ({error}); nothing of it was run. "
            "Fetch it again from where the data set is published"
        ) from None
