"""A rule as a straight line of operations, found by running it on symbols."""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

RUNTIME = ("t", "lr", "grad_scale", "update_scale")
"""Numbers that each step tells anew: the step's own (1 for the first), the learning rate, the
factor on the gradient from its global norm, and the factor on the step from its size."""

HOST: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "<": operator.lt,
    ">": operator.gt,
    "abs": abs,
    "sqrt": math.sqrt,
    "choose": lambda condition, x, y: x if condition else y,
}

Operand = str | float


@dataclass(frozen=True)
class Line:
    """One operation: what it makes, of what."""

    result: str
    operator: str
    operands: tuple[Operand, ...]


@dataclass
class Tape:
    """What a rule does to the numbers of a step, once, and to each element."""

    host: list[Line] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    coefficients: list[str] = field(default_factory=list)
    """Results on the host that elements meet."""
    numbers: list[str] = field(default_factory=list)
    """The numbers that it asks for, in the order of the first use."""

    def on_host(self, op: str, *operands: Any) -> "Number":
        names = tuple(x.name if isinstance(x, Number) else float(x) for x in operands)
        for line in self.host:
            if (line.operator, repr(line.operands)) == (op, repr(names)):  # -0.0 is not 0.0
                return Number(line.result, self)
        self.host.append(Line(f"#{len(self.host)}", op, names))
        return Number(self.host[-1].result, self)

    def on_elements(self, op: str, *operands: Any) -> "Element":
        line = Line(f"t{len(self.lines)}", op, tuple(map(self._element, operands)))
        self.lines.append(line)
        return Element(line.result, self)

    def _element(self, x: Any) -> Operand:
        if isinstance(x, Element):
            return x.name
        if not isinstance(x, Number):
            return float(x)
        if x.name not in self.coefficients:
            self.coefficients.append(x.name)
        return f"c{self.coefficients.index(x.name)}"

    @property
    def timed(self) -> bool:
        """Whether a coefficient differs from one step to the next."""
        return "t" in self.numbers


class _Arithmetic(ABC):
    """The operators that rules may use."""

    @abstractmethod
    def _record(self, op: str, *operands: Any) -> Any:
        """Write an operation down and stand for what it makes."""

    def __add__(self, other):
        return self._record("+", self, other)

    def __radd__(self, other):
        return self._record("+", other, self)

    def __sub__(self, other):
        return self._record("-", self, other)

    def __rsub__(self, other):
        return self._record("-", other, self)

    def __mul__(self, other):
        return self._record("*", self, other)

    def __rmul__(self, other):
        return self._record("*", other, self)

    def __truediv__(self, other):
        return self._record("/", self, other)

    def __rtruediv__(self, other):
        return self._record("/", other, self)

    def __neg__(self):
        return self._record("*", -1.0, self)

    def __lt__(self, other):
        return self._record("<", self, other)

    def __gt__(self, other):
        return self._record(">", self, other)

    def _refuse(self, *_):
        raise TypeError(
            "a rule can neither branch on an element or a number nor compare them by ==, !=, <= or "
            ">=: write choose(condition, x, y) with < or >"
        )

    __bool__ = __eq__ = __ne__ = __le__ = __ge__ = _refuse  # type: ignore[assignment]
    __hash__ = object.__hash__

    def __abs__(self):
        return self._record("abs", self)

    def sqrt(self):
        return self._record("sqrt", self)

    def choose(self, x, y):
        return self._record("choose", self, x, y)


@dataclass(frozen=True, eq=False)
class Number(_Arithmetic):
    """A number of the step; what is done with others like it is done once, on the host."""

    name: str
    tape: Tape = field(repr=False)

    def _record(self, op: str, *operands: Any) -> Any:
        elements = any(isinstance(x, Element) for x in operands)
        return (self.tape.on_elements if elements else self.tape.on_host)(op, *operands)

    def __pow__(self, other):
        return self._record("**", self, other)

    def __rpow__(self, other):
        return self._record("**", other, self)


@dataclass(frozen=True, eq=False)
class Element(_Arithmetic):
    """An element of the parameter, the gradient or a buffer."""

    name: str
    tape: Tape = field(repr=False)

    def _record(self, op: str, *operands: Any) -> Any:
        return self.tape.on_elements(op, *operands)

    def or_zero(self, least):
        return self._record("or_zero", self, least)


class Numbers:
    """The `h` of a rule that is traced: every number by its name."""

    def __init__(self, tape: Tape, known: tuple[str, ...]) -> None:
        self._tape, self._known = tape, (*RUNTIME, *known)

    def __getattr__(self, name: str) -> Number:
        if name not in self._known:
            raise AttributeError(f"this rule has no number {name!r}, it has {self._known}")
        if name not in self._tape.numbers:
            self._tape.numbers.append(name)
        return Number(name, self._tape)


@dataclass(frozen=True)
class Trace:
    """A rule written down: its tape, and what it returns for each of its streams."""

    tape: Tape
    streams: tuple[str, ...]
    results: tuple[Operand, ...]


def trace(function: Callable[..., Any], streams: tuple[str, ...], known: tuple[str, ...]) -> Trace:
    """What `function(h, *streams)` does, where `known` names the numbers besides the RUNTIME."""
    tape = Tape()
    out = function(Numbers(tape, known), *(Element(name, tape) for name in streams))
    out = out if isinstance(out, tuple) else (out,)
    return Trace(tape, streams, tuple(map(tape._element, out)))


def folded(tape: Tape, numbers: Mapping[str, float]) -> list[float]:
    """The coefficients of a step, from its numbers, in double precision."""
    values: dict[str, float] = dict(numbers)
    for line in tape.host:
        operands = (values[x] if isinstance(x, str) else x for x in line.operands)
        values[line.result] = float(HOST[line.operator](*operands))
    return [values[name] for name in tape.coefficients]
