"""What an optimizer says of how it steps its parameters."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from meansquare.hyper import Hyper
from meansquare.kernels import Choice
from meansquare.parts import part


def explained(
    groups: Sequence[Mapping[str, Any]],
    state: Mapping[Tensor, dict],
    hypers: Sequence[Hyper],
    choices: Mapping[Tensor, Choice],
) -> Iterator[str]:
    """Of each group its rule, then each kernel, which tensors it steps, and why it is that one."""
    for i, (group, hyper) in enumerate(zip(groups, hypers, strict=True)):
        yield f"group {i}: {hyper.rule.key}, {_described(group['params'], state)}"
        own = [choices[p] for p in group["params"]]
        for choice in dict.fromkeys(own):
            pairs = zip(group["params"], own, strict=True)
            tensors = [p for p, chosen in pairs if chosen == choice]
            why = f" ({choice.reason})" if choice.reason else ""
            yield f"  {choice.kernel}: {_described(tensors, state)}{why}"


def _described(tensors: list[Tensor], state: Mapping[Tensor, dict]) -> str:
    """Number and dtypes of some tensors, and the bytes of their state."""
    dtypes = ", ".join(dict.fromkeys(str(p.dtype).removeprefix("torch.") for p in tensors))
    size = sum(
        part(value).nbytes
        for p in tensors
        for value in state.get(p, {}).values()
        if isinstance(value, Tensor)
    )
    return f"{len(tensors)} tensors of {dtypes or 'nothing'}, {size:,} bytes of state"
