"""Memory that was freed and that the C library keeps: given back to the system, so that it is not taken for the model's."""

import ctypes
import sys


def give_back() -> None:
    """The C library of Linux keeps blocks of less than 32 MiB, in holes that the next one may not fit; elsewhere nothing is done."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
