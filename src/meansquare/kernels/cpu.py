"""The fused C++ kernels: one pass over memory for all tensors of a step, on the CPU."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meansquare.spec import all_specs

_KINDS = {False: 2, True: 5}  # DLDataTypeCode: kDLFloat, kDLComplex
_BFLOAT = 4


def describe(t: Tensor) -> tuple[int, ...]:
    """What DLPack's exchange interface tells of a tensor, for torch releases that lack it."""
    kind = _BFLOAT if t.dtype == torch.bfloat16 else _KINDS[t.is_complex()]
    floating = t.is_complex() or t.is_floating_point()
    on_cpu = t.device.type == "cpu" and t.layout == torch.strided and floating
    place = (t.data_ptr() if on_cpu else 0, 1 if on_cpu else 0)
    return (*place, kind, 8 * t.element_size(), *t.shape, *(t.stride() if on_cpu else t.shape))


def connect(native: Any, *, exchange: bool = True) -> bool:
    """Hand the extension what it needs of torch; True when it reads tensors through DLPack."""
    capsule = getattr(Tensor, "__dlpack_c_exchange_api__", None) if exchange else None
    return native.connect(Tensor, torch.nn.Parameter, capsule, describe)


def borrow_threads(native: Any) -> bool:
    """Let steps run on the threads of torch's own operations; False where that cannot be."""
    libraries = Path(torch.__file__).parent.glob("lib/libtorch_cpu.*")
    return native.borrow_threads(str(next(libraries, "")))


def _load() -> tuple[Any, str]:
    """The extension, or None and why it is not to be had."""
    try:
        from meansquare import _native as native
    except ImportError as error:
        return None, f"not compiled ({error}); reinstall with a C++20 compiler and see its output"
    if not {spec.key for spec in all_specs()} <= set(native.rule_keys()):
        return None, "compiled from other rules than are installed; reinstall meansquare"
    route = "DLPack" if connect(native) else "Python attributes (torch has no exchange interface)"
    threads = "torch's threads" if borrow_threads(native) else "threads of its own"
    return native, f"C++ ({native.instruction_set()}) on {threads}, reads tensors through {route}"


native, detail = _load()
