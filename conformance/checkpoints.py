"""Checkpoints of other optimizers for torch, as their users have them, to try the doctor on.

python -m conformance.checkpoints FOLDER, in the environment of these frameworks
"""

import os
import sys
import warnings
from pathlib import Path

os.environ |= {"TORCHDYNAMO_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}

import numpy as np
import torch

from conformance.signatures import find_bitsandbytes, find_sb3, find_timm, find_torch

STEPS = 60


def gradients(t: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Of seven decades within a tensor."""
    random = np.random.default_rng(t)
    sizes = 10.0 ** np.linspace(-6, 1, int(np.prod(shape))).reshape(shape)
    return torch.from_numpy(random.standard_normal(shape) * sizes)


def saved(make, dtype: torch.dtype = torch.float32, steps: int = STEPS) -> dict:
    params = [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in ((16, 16), (16, 16))]
    opt = make(params)
    for t in range(steps):
        for p in params:
            p.grad = gradients(t, p.shape).to(dtype)
        opt.step()
    return opt.state_dict()


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    find_bitsandbytes()
    from bitsandbytes.optim import RMSprop8bit

    made = {
        "timm": lambda p: find_timm()(p, lr=1e-3, momentum=0.9, decoupled_decay=True),
        "sb3": lambda p: find_sb3()(p, lr=7e-4, eps=1e-5),
        "bitsandbytes-8bit": lambda p: RMSprop8bit(p, lr=1e-3, momentum=0.9, min_8bit_size=1),
        "torch": lambda p: find_torch()(p, momentum=0.9, centered=True),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in made.items():
        torch.save(saved(make), folder / f"{name}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
