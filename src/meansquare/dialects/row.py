"""The form of a dialect."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from meansquare.family import RMSPropHyper

Spelling = str | Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Our name of an argument, or what all arguments that were given in its words come to in ours."""

NO_RATE = 1.0  # stands for a learning rate that has no default where a rule is to be shown


@dataclass(frozen=True)
class Dialect:
    """An implementation of RMSProp: its settings in our words, and its own words for them.

    `settings` are what makes its rule and its defaults, where they differ from torch's; without
    `lr` it has no default learning rate. `arguments` are its arguments, by its names; `refused`
    those that are not offered, with the default that changes nothing and what to do instead.
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
        own = {name: self.settings[name] for name in RMSPropHyper.names() if name in self.settings}
        return RMSPropHyper.checked(
            {"lr": NO_RATE, "dialect": self.name} | own | options, "RMSProp"
        )

    def refuse(self, name: str, value: Any) -> None:
        """Raise ValueError, unless it is the value that changes nothing."""
        harmless, instead = self.refused[name]
        if isinstance(value, bool | int | float | None) and value == harmless:
            return
        raise ValueError(f"{name} of dialect {self.name!r} is not offered here; {instead}")
