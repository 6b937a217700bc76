"""The fused C++ kernels: one pass over memory for all tensors of a step, on the CPU."""

import functools
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from meansquare.family import all_rules
from meansquare.state import STATE_DTYPES

Route = Literal["C interface", "DLPack", "Python"]
_KINDS = {False: 2, True: 5}  # DLDataTypeCode: kDLFloat, kDLComplex
_BFLOAT = 4


def describe(t: Tensor) -> tuple[int, ...]:
    """What DLPack's exchange interface tells of a tensor, for torch releases that lack it."""
    kind = _BFLOAT if t.dtype == torch.bfloat16 else _KINDS[t.is_complex()]
    floating = t.is_complex() or t.is_floating_point()
    on_cpu = t.device.type == "cpu" and t.layout == torch.strided and floating
    place = (t.data_ptr() if on_cpu else 0, 1 if on_cpu else 0)
    return (*place, kind, 8 * t.element_size(), *t.shape, *(t.stride() if on_cpu else t.shape))


def connect(native: Any, best: Route = "C interface") -> Route:
    """Hand the extension what it needs of torch; returns the way it reads tensors."""
    capsule = getattr(Tensor, "__dlpack_c_exchange_api__", None) if best != "Python" else None
    direct = native.connect(Tensor, torch.nn.Parameter, capsule, describe)
    if best == "C interface" and native.connect_stable(_library(), _samples()):
        return "C interface"
    return "DLPack" if direct else "Python"


@functools.cache
def know_distributed() -> None:
    """Let the kernels step tensors that lie on several ranks: there are some."""
    from torch.distributed.tensor import DTensor

    native.connect_distributed(DTensor, DTensor._local_tensor)


def _samples() -> list[Tensor]:
    """Tensors of every kind that the kernels take, to try a way of reading them on."""
    plain = [torch.zeros(2, 3, dtype=dtype) for dtype in STATE_DTYPES]
    views = [plain[0].t(), plain[1][:, 1:], plain[0][0, 0], torch.zeros(0, 2)]
    return [*plain, *views, *(torch.nn.Parameter(t) for t in (*plain, *views))]


def borrow_threads(native: Any) -> bool:
    """Let steps run on the threads of torch's own operations; False where that cannot be."""
    return native.borrow_threads(_library())


def _library() -> str:
    return str(next(Path(torch.__file__).parent.glob("lib/libtorch_cpu.*"), ""))


def _load() -> tuple[Any, str]:
    """The extension, or None and why it is not to be had."""
    try:
        from meansquare import _native as native
    except ImportError as error:
        return None, f"not compiled ({error}); reinstall with a C++20 compiler and see its output"
    if not {rule.key for rule in all_rules()} <= set(native.rule_keys()):
        return None, "compiled from other rules than are installed; reinstall meansquare"
    route = connect(native)
    threads = "torch's threads" if borrow_threads(native) else "threads of its own"
    return (
        native,
        f"C++ ({native.instruction_set()}) on {threads}, reads tensors through torch's {route}",
    )


native, detail = _load()
