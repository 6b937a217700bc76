"""Ours on the same problem: meansquare.RMSProp in a dialect, with the framework's own arguments."""

import numpy as np
import torch

from conformance.framework import Case, Run
from conformance.problem import flat
from meansquare import RMSProp


def path(dialect: str, case: Case, run: Run) -> np.ndarray:
    """The parameters after each step, a row each."""
    params = [torch.nn.Parameter(torch.from_numpy(p)) for p in run.starts()]
    opt = RMSProp(params, dialect=dialect, **case)
    lr = opt.param_groups[0]["lr"]
    rows = []
    for _, factor, grads in run.steps():
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.from_numpy(g)
        opt.param_groups[0]["lr"] = lr * factor
        opt.step()
        rows.append(flat([p.detach() for p in params]))
    return np.array(rows)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest one, relative to the parameter or to 1; infinite where either is not finite."""
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float((np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max())


def first_nan(rows: np.ndarray) -> int | None:
    """The first step after which a parameter is not finite."""
    broken = ~np.isfinite(rows).all(axis=1)
    return int(broken.argmax()) + 1 if broken.any() else None


def longest_step(rows: np.ndarray, start: np.ndarray, lr: float) -> float:
    """The longest finite one, as a multiple of the learning rate."""
    with np.errstate(invalid="ignore"):
        moves = np.abs(np.diff(np.vstack([start, rows]), axis=0))
    return float(moves[np.isfinite(moves)].max() / lr)
