"""What can go wrong, as one family of exceptions.

A message says what was met, where, and what to do about it.
"""


class DiagnoseError(Exception):
    """Base of every error that this package raises on purpose."""


class TraceError(DiagnoseError):
    """The input is not a trace: missing, not gzip, not JSON, cut off, or without ``traceEvents``."""


class UnknownDeviceError(DiagnoseError):
    """A device name without a row in the table."""


class UsageError(DiagnoseError):
    """Arguments that contradict each other or name something that is not there."""
