"""The random state of torch, Python and NumPy, to be set back."""

import random
from typing import Any, cast

import numpy as np
import torch


def chance() -> dict[str, Any]:
    """The random state of torch (every device), Python and NumPy, as tensors and plain values."""
    kind, keys, place, has_gauss, gauss = cast(Any, np.random.get_state())
    version, internal, next_gauss = random.getstate()
    return {
        "torch": torch.random.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": (version, list(internal), next_gauss),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), place, has_gauss, gauss),
    }


def set_chance(kept: dict[str, Any]) -> None:
    """Set everything back to what `chance` returned."""
    torch.random.set_rng_state(kept["torch"])
    if kept["cuda"]:
        torch.cuda.set_rng_state_all(kept["cuda"])
    version, internal, next_gauss = kept["python"]
    random.setstate((version, tuple(internal), next_gauss))
    kind, keys, *rest = kept["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
