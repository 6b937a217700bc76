"""What a watcher tells: a dict for a function, a line of strict JSON for a file."""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from meansquare.kernels import cpu

Line = dict[str, Any]


class Look(NamedTuple):
    """A look at all parameters that the extension has measured. As nobody can change it, it may be
    written later, many at once, which takes less time.
    """

    step: int
    seconds: float
    lr: tuple[float, ...]
    numbers: Any

    def told(self) -> Line:
        head = {"kind": "look", "step": self.step, "seconds": self.seconds, "lr": [*self.lr]}
        return {**head, "tensors": cpu.native.told(self.numbers)}

    def text(self) -> str:
        head = f'"kind":"look","step":{self.step},"seconds":{self.seconds}'
        rates, tensors = cpu.native.text_of(self.lr), cpu.native.text(self.numbers)
        return f'{{{head},"lr":{rates},"tensors":{tensors}}}'


class Losses(NamedTuple):
    """The losses of the steps from `first` on."""

    first: int
    values: tuple[float, ...]

    def told(self) -> Line:
        return {"kind": "losses", "first": self.first, "values": [*self.values]}

    def text(self) -> str:
        if cpu.native is None:
            return text_of(self.told())
        values = cpu.native.text_of(self.values)
        return f'{{"kind":"losses","first":{self.first},"values":{values}}}'


Compact = Look | Losses

_STRICT = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def text_of(line: Line) -> str:
    """Strict JSON: null for what is not finite."""
    try:
        return _STRICT.encode(line)
    except ValueError:  # few lines have a number that is not finite
        return _STRICT.encode(finite(line))


def finite(value: Any) -> Any:
    """The same with null for every number that is not finite, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return value
