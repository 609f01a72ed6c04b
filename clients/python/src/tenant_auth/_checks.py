"""Rejects invalid values, with the name of the option, the value and what to do."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

MAX_DURATION = 86_400.0
"""A day. Longer durations are usually a mistake of the unit."""
MAX_ENTRIES = 10_000_000
MAX_HEADER_LENGTH = 256


def duration(name: str, value: object, *, zero: bool = False) -> float:
    """Seconds: more than 0 (or at least 0), and at most a day."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {type(value).__name__} {value!r}: give a number of seconds, such as 0.5")
    # Only comparisons are used: an int may be too large for a float, and NaN is in no range.
    if not 0 <= value <= MAX_DURATION or (value == 0 and not zero):
        minimum = "from 0" if zero else "more than 0"
        raise ValueError(f"{name} is {value!r}: give {minimum} to {MAX_DURATION:.0f} seconds")
    return float(value)


def optional_duration(name: str, value: object) -> float | None:
    return None if value is None else duration(name, value)


def count(name: str, value: object, minimum: int, maximum: int) -> int:
    """A whole number between two limits."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {type(value).__name__} {value!r}: give a whole number from {minimum} to {maximum}")
    if not minimum <= value <= maximum:
        raise ValueError(f"{name} is {value}: give a whole number from {minimum} to {maximum}")
    return value


def fraction(name: str, value: object) -> float:
    """A fraction from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {type(value).__name__} {value!r}: give a number from 0 to 1")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}: give a number from 0 to 1")
    return float(value)


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {type(value).__name__} {value!r}: give True or False")
    return value


def header_text(name: str, value: object) -> str:
    """Text that can be sent as a header: printable ASCII, not empty, and limited in length because every call carries
    it.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} is {type(value).__name__} {value!r}: give text")
    if (
        not 1 <= len(value) <= MAX_HEADER_LENGTH
        or value != value.strip()
        or not (value.isascii() and value.isprintable())
    ):
        shown = value if len(value) <= MAX_HEADER_LENGTH else value[:64] + "…"
        raise ValueError(
            f"{name} is {shown!r}: give 1 to {MAX_HEADER_LENGTH} printable ASCII characters without a line break"
        )
    return value


def instance(name: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds):
        wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise TypeError(f"{name} is {type(value).__name__}: give {wanted}")


def function(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(f"{name} is {type(value).__name__}: give a function")


def sync_function(name: str, value: object) -> None:
    """A function that is not a coroutine function: its result would never be awaited."""
    function(name, value)
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} is a coroutine function: give one that answers at once")


def texts(name: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """Several texts. A single text counts as one item, not as its characters."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, bytes | bytearray) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is {type(value).__name__}: give text or a list of texts")
    items: tuple[Any, ...] = tuple(value)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{name} contains {type(item).__name__}: give a list of texts")
    return items
