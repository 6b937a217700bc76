"""How the settings of an optimizer are checked, and how messages show a value."""

import math
import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Check = Callable[[str, Any], Any]
"""Of a name and a value: the value as it is used, or ValueError or TypeError."""


STATE_FORMAT = 1
"""Of state dicts: what their keys mean. A release reads its own and all before."""


@contextmanager
def told_by(who: str, where: str = "") -> Iterator[None]:
    """Put who says it before the message of an error, and where it is behind."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        if type(error) not in (TypeError, ValueError, RuntimeError):
            raise
        raise type(error)(f"{who}: {error}{where}") from error.__cause__


class _Short(reprlib.Repr):
    """Plain values in Python's words and cut short; of anything else its type, and its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxtuple, self.maxstring, self.maxother = 2, 10, 100, 100

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, (bool, int, float, complex, str, bytes, type(None))):
            return super().repr_instance(x, level)
        shape = getattr(x, "shape", None)
        return type(x).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")


def shown(value: Any) -> str:
    """How messages show a value: one short line, whatever it is, without running code of its own.

    >>> shown([[[["deep"]]]]), shown("a" * 300)[-4:], shown(10**5000)
    ('[[[...]]]', "aaa'", 'a value of type int')
    """
    try:
        text = _Short().repr(value)
    except Exception:  # a number of too many digits, a tensor without a shape
        text = f"a value of type {type(value).__name__}"
    return " ".join(text.split())


def number(name: str, value: Any) -> float:
    """A Python float from a float, an int, a NumPy scalar or a tensor of one element."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{name} must be a number, got {shown(value)}") from None


def between(low: float, high: float, words: str, *, without: float | None = None) -> Check:
    """A number in [low, high), except for the one that is left out."""

    def check(name: str, value: Any) -> float:
        x = number(name, value)
        if low <= x < high and x != without:
            return x
        raise ValueError(f"{name} must be {words}, got {x!r}")

    return check


def flag(name: str, value: Any) -> bool:
    with suppress(RuntimeError):  # of a tensor without a value
        if not getattr(value, "ndim", 0) and value in (True, False):
            return bool(value)
    raise TypeError(f"{name} must be True or False, got {shown(value)}")


def state_format(name: str, value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{name} must be an int, got {shown(value)}")
    if not 1 <= value <= STATE_FORMAT:
        raise ValueError(
            f"{name} must be {STATE_FORMAT} or less, got {value}; "
            "it was written by a later release, which reads it"
        )
    return value


def optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def one_of(options: tuple[str, ...]) -> Check:
    def check(name: str, value: Any) -> Any:
        if isinstance(value, str) and value in options:
            return value
        raise ValueError(f"{name} must be one of {options}, got {shown(value)}")

    return check


def pair_of(first: Check, second: Check) -> Check:
    """Two numbers, checked one by one."""

    def check(name: str, value: Any) -> tuple[float, float]:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise TypeError(f"{name} must be two numbers, got {shown(value)}")
        return first(f"{name}[0]", value[0]), second(f"{name}[1]", value[1])

    return check


def seed(name: str, value: Any) -> int:
    if isinstance(value, int) and 0 <= value < 2**64:
        return value
    raise ValueError(f"{name} must be an integer in [0, 2**64), got {shown(value)}")


def count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")
    return value


def text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"{name} must be a str, got {shown(value)}")


finite = between(-math.inf, math.inf, "finite", without=-math.inf)
at_least_zero = between(0.0, math.inf, "finite and >= 0")
above_zero = between(0.0, math.inf, "finite and > 0", without=0.0)
not_negative = between(0.0, math.nextafter(math.inf, 0), ">= 0")
fraction = between(0.0, 1.0, "in [0, 1)")
