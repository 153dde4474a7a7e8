"""A function whose calls are recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from diagnose.report import Report


class Session(AbstractContextManager[Any], Protocol):
    """What a profile is to the function that it wraps."""

    @property
    def report(self) -> Report | None:
        """The last cycle's report."""


class Profiled:
    """Calls the function it wraps inside a profile of its own.

    Attributes:
        profile: The last call's, None before the first.
    """

    def __init__(self, function: Callable[..., Any], make: Callable[[], Session]) -> None:
        functools.update_wrapper(self, function)
        self.profile: Session | None = None
        self._function = function
        self._make = make
        self._is_inside = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls and records; a call from inside itself is part of the outer one's recording."""
        if self._is_inside:
            return self._function(*args, **kwargs)
        self._is_inside = True
        try:
            self.profile = self._make()
            with self.profile:
                return self._function(*args, **kwargs)
        finally:
            self._is_inside = False

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method, the instance is the first argument."""
        return self if instance is None else functools.partial(self, instance)

    @property
    def report(self) -> Report | None:
        """The last call's report, None before the first call."""
        return None if self.profile is None else self.profile.report
