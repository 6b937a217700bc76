"""What each state format wrote, which every later release is to load.

`PYTHONPATH=tests python -m kept` writes the files of the present format. Those of a format that is
out are never written again.
"""

import shutil
from pathlib import Path
from typing import Any

import saved
import torch
from members import FAMILY
from ranks import ranks
from torch import nn

import meansquare
from meansquare import RMSProp
from meansquare.dialects import DIALECTS
from meansquare.settings import STATE_FORMAT

FOLDER = Path(__file__).parent / "golden" / "state"
DISTRIBUTED = {"lr": 1e-2, "momentum": 0.9, "centered": True}
SHAPES = ((3, 4), (5,), ())


def cases() -> dict[str, tuple[Any, dict[str, Any], torch.dtype]]:
    dialects = {
        f"dialect {name}": (RMSProp, {"dialect": name, "lr": 1e-2}, torch.float32)
        for name in DIALECTS
    }
    members = {
        f"{m.kind.__name__} {m.key}": (m.kind, {"lr": 1e-2, **m.options}, torch.float32)
        for m in FAMILY
    }
    full = {"lr": 1e-2, "momentum": 0.9, "centered": True}
    kinds = {
        f"centered {dtype}": (RMSProp, full, dtype)
        for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.complex64)
    }
    return dialects | members | kinds


def parameters(dtype: torch.dtype) -> list[nn.Parameter]:
    source = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=source).to(dtype)) for shape in SHAPES]


def walk(opt: Any, first: int, steps: int) -> None:
    for t in range(first, first + steps):
        source = torch.Generator().manual_seed(1 + t)
        for group in opt.param_groups:
            for p in group["params"]:
                p.grad = torch.randn(p.shape, generator=source).to(p.dtype)
        opt.step()


def of(kind: Any, options: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Three steps into a run: the state dict, the parameters, and these after two steps more."""
    params = parameters(dtype)
    opt = kind(params, **options)
    walk(opt, 0, 3)
    before = [p.detach().clone() for p in params]
    state = torch.utils._pytree.tree_map(
        lambda x: x.clone() if isinstance(x, torch.Tensor) else x, opt.state_dict()
    )
    walk(opt, 3, 2)
    return {
        "kind": kind.__name__,
        "dtype": str(dtype).removeprefix("torch."),
        "optimizer": state,
        "before": before,
        "after": [p.detach().clone() for p in params],
    }


def resumed(case: dict[str, Any]) -> list[torch.Tensor]:
    """The parameters, two steps after such a state was loaded."""
    kind = getattr(meansquare, case["kind"])
    params = [nn.Parameter(p.clone()) for p in case["before"]]
    dialect = case["optimizer"]["param_groups"][0].get("dialect")
    opt = kind(params, lr=9.0, **({"dialect": dialect} if dialect else {}))
    opt.load_state_dict(case["optimizer"])
    walk(opt, 3, 2)
    return [p.detach() for p in params]


def write() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(
        {name: of(*case) for name, case in cases().items()},
        FOLDER / f"format{STATE_FORMAT}.pt",
    )
    many = FOLDER / f"format{STATE_FORMAT}-4-ranks"
    shutil.rmtree(many, ignore_errors=True)
    ranks(4).call(saved.save, str(many), RMSProp, DISTRIBUTED)


if __name__ == "__main__":
    write()
