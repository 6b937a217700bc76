"""The C++ kernels (csrc/module.cpp)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

def instruction_set() -> str: ...
def instruction_sets() -> list[str]: ...
def use_instruction_set(name: str, /) -> None: ...
def rule_keys() -> list[str]: ...
def connect(
    tensor: type, parameter: type, capsule: object | None, describe: Callable[..., tuple[int, ...]]
) -> bool: ...
def connect_stable(library: str, samples: list[Tensor], /) -> bool: ...
def borrow_threads(library: str, /) -> bool: ...

class Plan:
    def __init__(self, groups: list[list[tuple[Tensor, bool]]], /) -> None: ...

def set_group(
    plan: Plan,
    i: int,
    key: str,
    centered: bool,
    momentum: bool,
    debias: bool,
    seed: int,
    alpha: float,
    float32: tuple[float, ...] | list[float],
    float64: tuple[float, ...] | list[float],
    /,
) -> None: ...
def set_elsewhere(plan: Plan, spans: list[tuple[int, int]], /) -> None: ...
def check(plan: Plan, groups: list[dict[str, Any]], state: dict[Tensor, dict], /) -> int: ...
def step(
    plan: Plan,
    groups: list[dict[str, Any]],
    state: dict[Tensor, dict],
    threads: int,
    increment_version: Callable[[list[Tensor]], None],
    /,
) -> int: ...
