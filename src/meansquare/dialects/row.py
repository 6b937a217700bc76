"""The form of a dialect."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from meansquare.family import RMSPropHyper
from meansquare.settings import flag, number

Given = Mapping[str, Any]
Spelling = str | tuple[str, Callable[[Given], Given]]
"""The setting that an argument makes, by our name; where its value is another there, or other
settings go with it, also a function of all arguments that were given, which tells them."""

NO_RATE = 1.0  # stands for a learning rate that has no default where a rule is to be shown


@dataclass(frozen=True)
class Dialect:
    """An implementation of RMSProp: its settings in our words, and its own words for them.

    `settings` are what makes its rule and its defaults, where they differ from torch's; without
    `lr` it has no default learning rate. `arguments` are its arguments, by its names; `refused`
    those that are not offered, with the values that change nothing and what to do instead.
    `state` are its names of the buffers, and ours. `verified` says whether ours was run beside it,
    in the version of `source`, or that source was only read.
    """

    name: str
    label: str
    source: str
    verified: Literal["run", "read", "own"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Spelling] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    note: str = ""

    def hyper(self, **options: Any) -> RMSPropHyper:
        """Its settings with these in place of its own; without a learning rate, that is 1."""
        own = {"lr": NO_RATE, "dialect": self.name} | dict(self.settings)
        return RMSPropHyper.checked(own | options, "RMSProp")

    def setting(self, argument: str) -> str:
        """Our name of one of its arguments; the name itself where it has none of this name."""
        spelling = self.arguments.get(argument, argument)
        return spelling if isinstance(spelling, str) else spelling[0]

    def refuse(self, name: str, value: Any) -> None:
        """Raise ValueError, unless the value is one that changes nothing."""
        harmless, instead = self.refused[name]
        if value is not None and not _is(value, harmless):
            raise ValueError(f"{name} of dialect {self.name!r} is not offered here; {instead}")


def _is(value: Any, harmless: Any) -> bool:
    if harmless is None or isinstance(harmless, str):
        return isinstance(value, str) and value == harmless
    with suppress(TypeError):
        check = flag if isinstance(harmless, bool) else number
        return check("", value) == harmless
    return False
