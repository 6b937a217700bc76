"""The same parameters twice: one set stepped by meansquare, the other by its namesake in torch."""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from meansquare import RMSProp

SHAPES = {  # every layout that a parameter may have, as a view of a fresh contiguous tensor
    "scalar": lambda: torch.empty(()),
    "empty": lambda: torch.empty(0, 3),
    "one": lambda: torch.empty(1, 1),
    "vector": lambda: torch.empty(37),
    "matrix": lambda: torch.empty(5, 7),
    "channels_last": lambda: torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed": lambda: torch.empty(4, 6).t(),
    "permuted": lambda: torch.empty(3, 4, 5).permute(1, 2, 0),
    "sliced": lambda: torch.empty(9, 8)[::2, 1:6],
    "reversed_slices": lambda: torch.empty(6, 9)[1::3, ::4].t(),
}


def layouts(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[nn.Parameter]:
    """A parameter of each layout, filled with normal numbers."""
    source = torch.Generator().manual_seed(seed)
    views = [make() for make in SHAPES.values()]
    bases = [torch.zeros(v.untyped_storage().nbytes() // 4 or 1, dtype=dtype) for v in views]
    pairs = zip(bases, views, strict=True)
    params = [nn.Parameter(b.as_strided(v.shape, v.stride(), v.storage_offset())) for b, v in pairs]
    for p in params:
        p.data.copy_(torch.randn(p.shape, generator=source, dtype=dtype))
    return params


def every_dtype() -> RMSProp:
    """Two steps into a run of groups of every kind, with gradients for a third."""
    half = [nn.Parameter(p.detach().bfloat16()) for p in layouts()]
    groups = [
        {"params": layouts(), "lr": 1e-3},
        {"params": half, "momentum": 0.9},
        {"params": layouts(torch.complex64), "centered": True},
        {"params": layouts(torch.float64), "momentum": 0.5, "nesterov": True},
    ]
    opt = RMSProp(groups)
    walk((opt,), 2)
    set_gradients(2, parameters(opt))
    return opt


def copies(params: Sequence[Tensor]) -> list[nn.Parameter]:
    """Parameters of the same values and strides in memory of their own."""
    memory = [p.detach().untyped_storage().clone() for p in params]
    views = [torch.empty(0, dtype=p.dtype).set_(m) for p, m in zip(params, memory, strict=True)]
    return [
        nn.Parameter(v.as_strided(p.shape, p.stride(), p.storage_offset()))
        for p, v in zip(params, views, strict=True)
    ]


def set_gradients(t: int, *twins: Sequence[Tensor]) -> None:
    """Gradients of step t: normal numbers with a mean, the same for each of the twins."""
    source = torch.Generator().manual_seed(1000 + t)
    for same in zip(*twins, strict=True):
        g = 0.3 + torch.randn(same[0].shape, generator=source, dtype=same[0].dtype)
        for p in same:
            p.grad = g.clone()


def pair(
    params: Sequence[Tensor],
    make: Callable[[Any, list], torch.optim.Optimizer] | None = None,
    kinds: tuple[Any, Any] = (RMSProp, torch.optim.RMSprop),
    **options,
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Our optimizer over `params` and its namesake over copies of them."""
    make = make or (lambda kind, own: kind(own, **options))
    ours, theirs = kinds
    return make(ours, list(params)), make(theirs, copies(params))


def gradient_of(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad


def parameters(opt: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in opt.param_groups for p in group["params"]]


def kernels_of(opt) -> set[str]:
    """The kernels that step its parameters."""
    choices = opt._plan.choices(opt.param_groups, opt._checked_groups())
    return {choice.kernel for choice in choices.values()}


def walk(opts: Sequence[torch.optim.Optimizer], steps: int, first: int = 0) -> None:
    """Some steps with the same gradients."""
    for t in range(first, first + steps):
        set_gradients(t, *map(parameters, opts))
        for opt in opts:
            opt.step()


def distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Largest difference of an element, relative to the largest element of its tensor."""
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if a.numel():
            a, b = a.detach(), b.detach()
            assert a.isfinite().all()
            assert b.isfinite().all()
            worst = max(worst, ((a - b).abs().max() / b.abs().max()).item())
    return worst


def apart(opts: Sequence[torch.optim.Optimizer]) -> float:
    return distance(*map(parameters, opts))


def layers(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4))


def walked(params: Iterable, kind: type = RMSProp, **options) -> torch.optim.Optimizer:
    """An optimizer after three steps with momentum."""
    opt = kind(params, momentum=0.9, **options)
    walk((opt,), 3)
    return opt


def through_a_file(values: object) -> Any:
    """What torch.load makes of it with its safe defaults."""
    file = io.BytesIO()
    torch.save(values, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def leaves() -> list[Tensor]:
    """Three tensors of which autograd is to find the gradients."""
    source = torch.Generator().manual_seed(0)
    return [torch.rand(6, generator=source, dtype=torch.float64).requires_grad_() for _ in range(3)]
