"""What may stand in a damaged state dict: junk of every kind, in every place."""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def nested(depth: int) -> list:
    """A list in a list, and so on."""
    inside: list = []
    for _ in range(depth):
        inside = [inside]
    return inside


def shared(depth: int) -> list:
    """A small thing that is endless in words: two names of the same, over and over."""
    inside: list = ["laugh"]
    for _ in range(depth):
        inside = [inside, inside]
    return inside


class Tagged(Tensor):
    """A subclass that adds nothing."""


JUNK = {
    "none": lambda: None,
    "nan": lambda: math.nan,
    "infinite": lambda: math.inf,
    "negative": lambda: -1.5,
    "fraction": lambda: 0.5,
    "huge_float": lambda: 1e300,
    "long_integer": lambda: 10**5000,
    "past_every_count": lambda: 2**64,
    "true": lambda: True,
    "complex_number": lambda: 1j,
    "words": lambda: "several\nlines",
    "surrogate": lambda: "\ud800",
    "bytes": lambda: b"\x80\x02.",
    "empty_list": list,
    "list_of_words": lambda: ["a", "b"],
    "deep_list": lambda: nested(100_000),
    "shared_list": lambda: shared(60),
    "empty_dict": dict,
    "odd_keys": lambda: {None: 1, (1, 2): 2, 3.5: {}},
    "ordered": lambda: OrderedDict(step=-1),
    "set": lambda: {1},
    "type": lambda: nn.Parameter,
    "scalar": lambda: torch.tensor(2.0),
    "vector": lambda: torch.arange(5.0),
    "same_shape": lambda: torch.ones(3, 2),
    "other_shape": lambda: torch.ones(2, 3),
    "no_elements": lambda: torch.empty(0),
    "integers": lambda: torch.ones(3, 2, dtype=torch.int64),
    "truths": lambda: torch.ones(3, 2, dtype=torch.bool),
    "half": lambda: torch.ones(3, 2, dtype=torch.float16),
    "eighth": lambda: torch.ones(3, 2).to(torch.float8_e4m3fn),
    "complex": lambda: torch.ones(3, 2, dtype=torch.complex64),
    "not_a_number": lambda: torch.full((3, 2), math.nan),
    "negative_tensor": lambda: -torch.ones(3, 2),
    "expanded": lambda: torch.ones(()).expand(3, 2),
    "expanded_far": lambda: torch.ones(()).expand(2**40, 2**20),
    "meta": lambda: torch.empty(3, 2, device="meta"),
    "meta_scalar": lambda: torch.empty((), device="meta"),
    "sparse": lambda: torch.ones(3, 2).to_sparse(),
    "sparse_scalar": lambda: torch.ones(1).to_sparse(),
    "compressed": lambda: torch.ones(3, 2).to_sparse_csr(),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(1)]),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3, 2), 1.0, 0, torch.quint8),
    "quantized_scalar": lambda: torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.quint8),
    "parameter": lambda: nn.Parameter(torch.ones(3, 2)),
    "subclass": lambda: torch.ones(3, 2).as_subclass(Tagged),
    "conjugate": lambda: torch.ones(3, 2, dtype=torch.complex64).conj(),
    "of_autograd": lambda: torch.ones(3, 2, requires_grad=True) * 2,
    "lists_of_tensors": lambda: [torch.ones(40, 40)] * 3,
}


def places(node: Any, path: tuple = ()) -> list[tuple]:
    """The way to every node of a state dict, the whole of it first."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    below = [
        place
        for key, value in inner
        for place in (
            places(value, (*path, key)) if isinstance(value, (dict, list)) else [(*path, key)]
        )
    ]
    return [path, *below]


Change = Callable[[Any, Any], Any]


def rename(new: Any) -> Change:
    def change(node: Any, key: Any) -> None:
        if isinstance(node, dict):
            node[new] = node.pop(key)
        else:
            node.insert(0, node.pop(key))

    return change


def replace(make: Callable[[], Any]) -> Change:
    return lambda node, key: node.__setitem__(key, make())


def repeat(node: Any, key: Any) -> None:
    if isinstance(node, dict):
        node[len(node)] = node[key]
    else:
        node.append(node[key])


CHANGES: dict[str, Change] = {name: replace(make) for name, make in JUNK.items()} | {
    "removed": lambda node, key: node.pop(key),
    "repeated": repeat,
    "renamed_number": rename(7),
    "renamed_word": rename("exp_avg"),
    "renamed_nothing": rename(None),
    "renamed_pair": rename((0, "step")),
    "renamed_long": rename(10**5000),
}


def changed(saved: dict, place: tuple, change: Change) -> Any:
    """A state dict with a change in one place."""
    whole = {"": copy.deepcopy(saved)}  # so that it is in a place, too
    *way, last = ("", *place)
    node: Any = whole
    for key in way:
        node = node[key]
    change(node, last)
    return whole.get("")
