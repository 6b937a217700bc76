"""RMSProp done right for PyTorch, and the optimizers it is weighed against."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meansquare.checkpoint import read_checkpoint
    from meansquare.diagnosis import doctor
    from meansquare.guarding import Guard
    from meansquare.kernels import backends
    from meansquare.optimizers import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD
    from meansquare.optimizers.groups import decay_groups
    from meansquare.optimizers.own import optimizer
    from meansquare.recipes import recipe
    from meansquare.step_size import suggest_lr
    from meansquare.watching import watch

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Guard",
    "RMSProp",
    "Rprop",
    "SignSGD",
    "__version__",
    "backends",
    "decay_groups",
    "doctor",
    "optimizer",
    "read_checkpoint",
    "recipe",
    "suggest_lr",
    "watch",
]

# Imported when first asked for: records are read and reports made where there is no torch.
_HOMES = {
    "read_checkpoint": "checkpoint",
    "doctor": "diagnosis",
    "Guard": "guarding",
    "backends": "kernels",
    "decay_groups": "optimizers.groups",
    "optimizer": "optimizers.own",
    "recipe": "recipes",
    "suggest_lr": "step_size",
    "watch": "watching",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'optimizers')}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return [*__all__]
