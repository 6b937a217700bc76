"""Prodigy as prodigyopt computes it, on a small problem: the estimate d, and sums of weights.

python -m conformance.prodigy FILE, in the environment of that package
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "prodigy" / "prodigyopt.json"
STEPS = 120
# Rounding, which a loss that is not convex makes some hundred times as large by the end.
ROUNDING = 1e-9


def steps() -> list[list[float]]:
    """`Prodigy(lr=1, betas=(0, 0.99), eps=1e-20)` in float64, after each step."""
    import torch
    from prodigyopt import Prodigy  # pyright: ignore

    torch.set_default_dtype(torch.float64)
    x = torch.linspace(-2, 2, 40).reshape(8, 5)
    y = torch.sin(x.sum(1, keepdim=True))
    w = torch.nn.Parameter(torch.linspace(-0.5, 0.5, 15).reshape(5, 3))
    b = torch.nn.Parameter(torch.linspace(0.5, -0.5, 3))
    u = torch.nn.Parameter(torch.linspace(-1, 1, 3).reshape(3, 1))
    options = {"use_bias_correction": False, "safeguard_warmup": False}
    optimizer = Prodigy([w, b, u], lr=1.0, betas=(0.0, 0.99), eps=1e-20, **options)
    told = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((torch.tanh(x @ w + b) @ u - y) ** 2).mean().backward()
        optimizer.step()
        sums = [p.detach().sum().item() for p in (w, b, u)]
        told.append([float(optimizer.param_groups[0]["d"]), *sums])
    return told


def difference(rows: Sequence[Sequence[float]]) -> float:
    """How far these are from the golden file: relative, of sums near zero as they are."""
    known = json.loads(GOLDEN.read_text())["rows"]
    if len(rows) != len(known):
        return math.inf
    pairs = [
        pair
        for row, other in zip(rows, known, strict=True)
        for pair in zip(row, other, strict=True)
    ]
    return max(abs(ours - theirs) / max(abs(theirs), 1.0) for ours, theirs in pairs)


def keep(made_by: str, rows: Sequence[Sequence[float]]) -> None:
    lines = ",\n  ".join(map(json.dumps, rows))
    GOLDEN.write_text(f'{{"made_by": "{made_by}",\n "rows": [\n  {lines}\n]}}\n')


def main(file: Path) -> None:
    from importlib.metadata import version

    made_by = f"prodigyopt {version('prodigyopt')}, torch {version('torch')}"
    file.write_text(json.dumps({"made_by": made_by, "rows": steps()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
