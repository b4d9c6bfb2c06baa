"""The errors that the library raises. Each message is one sentence with its remedy; the command line prints it and exits."""


class GemmeterError(Exception):
    """Base of all errors that a user can mend.

    Attributes:
        exit_code: what the command line exits with.
    """

    exit_code = 5


class UsageError(GemmeterError):
    """Wrong usage, suite, rule file or unknown name."""

    exit_code = 2


class StoreError(GemmeterError):
    """The store is missing, older or newer than this version, locked or damaged."""

    exit_code = 2


class StoreWriteError(StoreError):
    """A record could not be written: the disk is full, fails, or the store refuses the record."""

    exit_code = 5


class NotComparableError(GemmeterError):
    """Two sides that must not be compared: different hardware, nothing in common, no baseline."""

    exit_code = 4
