"""Step for minutes through all that can happen to an optimizer, and see that nothing grows.

python benchmarks/soak.py [--minutes M] [--leak tensor|bytes]

A cycle does each of the DISTURBANCES once, in random order, with a step after each. Before every
fifth cycle the optimizer is dropped for a new one, and memory, tensors, threads and files are
counted. The verdict is on the slope of a straight line through what was counted after a warm-up.
`--leak` keeps a tensor of four numbers or 4 KB of memory in each cycle, and must fail.
"""

import argparse
import copy
import ctypes
import gc
import itertools
import os
import pickle
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from meansquare import RMSProp

SIZES = (1000, 1000, 4, 1)
MANY = 140_000  # elements, enough for a step to use several threads, in every fourth optimizer
# What each counter may grow by in 1000 cycles, and in all, whichever is more: memory comes in pages
# and arenas. A kept tensor of four numbers is some 700 bytes: 700 KB and 1000 tensors.
LIMITS = {"resident KB": (20, 256), "tensors": (1, 2), "threads": (1, 2), "files": (1, 2)}
CYCLES = 5  # with one optimizer
WARM_UP = 200  # cycles
LEAST = 600  # cycles, however long they take
FORK_LIMIT = 60.0  # seconds, after which a child hangs

Disturbance = Callable[[RMSProp], RMSProp | None]


class Subclassed(nn.Parameter):
    """What the kernels leave to torch operations."""


def parameters(opt: RMSProp) -> list[Tensor]:
    return [p for group in opt.param_groups for p in group["params"]]


def fresh() -> RMSProp:
    first = random.choice((MANY, *SIZES[:1] * 3))
    params: list[Tensor] = [nn.Parameter(torch.randn(size)) for size in (first, *SIZES[1:])]
    groups = [{"params": params}, {"params": [Subclassed(torch.randn(4))], "momentum": 0.9}]
    return RMSProp(groups, lr=1e-4)


def stepped(opt: RMSProp) -> None:
    for p in parameters(opt):
        p.grad = torch.randn_like(p) if p.requires_grad else None
    opt.step()


def drop_the_plan(opt: RMSProp) -> None:
    opt.__setstate__(opt.__getstate__())


def add_a_group(opt: RMSProp) -> None:
    opt.add_param_group({"params": [nn.Parameter(torch.randn(7))], "lr": 1e-5})


def reload(opt: RMSProp) -> None:
    opt.load_state_dict(opt.state_dict())


def reload_from_a_file(opt: RMSProp) -> None:
    with tempfile.TemporaryFile() as file:
        torch.save(opt.state_dict(), file)
        file.seek(0)
        opt.load_state_dict(torch.load(file, weights_only=True))


def go_on_with_a_copy(opt: RMSProp) -> RMSProp:
    return copy.deepcopy(opt)


def go_on_with_a_pickle(opt: RMSProp) -> RMSProp:
    return pickle.loads(pickle.dumps(opt))


def move_storage(opt: RMSProp) -> None:
    for p in parameters(opt):
        p.data = p.data.clone()


def switch_the_rule(opt: RMSProp) -> None:
    for group in opt.param_groups:
        group["momentum"] = 0.9 - group["momentum"]
        group["centered"] = random.choice((True, False))


def freeze_or_unfreeze(opt: RMSProp) -> None:
    for p in parameters(opt)[:2]:
        p.requires_grad_(not p.requires_grad)


def change_the_dtype(opt: RMSProp) -> None:
    for p in parameters(opt):
        p.grad = None
        p.data = p.data.to(random.choice((torch.float32, torch.float64, torch.bfloat16)))


def change_the_number_of_threads(opt: RMSProp) -> None:
    torch.set_num_threads(random.choice((1, 2, 3)))


def take_a_lazy_gradient(opt: RMSProp) -> None:
    p = parameters(opt)[2]
    values = torch.randn(p.shape, dtype=torch.complex128 if p.dtype == torch.float64 else None)
    stepped(opt)
    if p.dtype in (torch.float32, torch.float64):
        p.grad = torch.complex(values.real, values.real).conj().imag
        opt.step()


def refuse_a_gradient(opt: RMSProp) -> None:
    p = parameters(opt)[1]
    before = p.detach().clone()
    p.grad = torch.ones_like(p.detach()).to_sparse()
    try:
        opt.step()
    except TypeError:
        assert torch.equal(p, before)
    else:
        raise AssertionError("a sparse gradient was not refused")


def step_in_a_forked_child(opt: RMSProp) -> None:
    if random.random() > 0.05:
        return
    stepped(opt)  # all state is made: in a child, torch's own operations on many elements hang
    pid = os.fork()
    if pid == 0:
        try:
            opt.step()
            os._exit(0)
        finally:
            os._exit(1)
    assert status_of(pid) == 0


def status_of(pid: int) -> int:
    limit = time.monotonic() + FORK_LIMIT
    while time.monotonic() < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.001)
    raise AssertionError(f"the child {pid} hangs")


DISTURBANCES: list[Disturbance] = [
    drop_the_plan,
    add_a_group,
    reload,
    reload_from_a_file,
    go_on_with_a_copy,
    go_on_with_a_pickle,
    move_storage,
    switch_the_rule,
    freeze_or_unfreeze,
    change_the_dtype,
    change_the_number_of_threads,
    take_a_lazy_gradient,
    refuse_a_gradient,
    step_in_a_forked_child,
]


def cycle(opt: RMSProp) -> RMSProp:
    for disturb in random.sample(DISTURBANCES, len(DISTURBANCES)):
        opt = disturb(opt) or opt
        stepped(opt)
    assert all(bool(p.isfinite().all()) for p in parameters(opt)), "a parameter is not finite"
    return opt


@dataclass(frozen=True)
class Count:
    """What there is after some cycles."""

    seconds: float
    cycles: int
    resident: float
    tensors: int
    threads: int
    files: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.0f} s, {self.cycles:7} cycles, {self.resident / 1024:7.1f} MB "
            f"resident, {self.tensors} tensors, {self.threads} threads, {self.files} files"
        )


def count(seconds: float, cycles: int) -> Count:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    tensors = sum(issubclass(type(kept), Tensor) for kept in gc.get_objects())
    threads, files = (len(os.listdir(f"/proc/self/{of}")) for of in ("task", "fd"))
    return Count(seconds, cycles, resident, tensors, threads, files)


def soak(seconds: float, leak: Callable[[], object]) -> list[Count]:
    """Counts of about every other second."""
    begin, told, counts = time.monotonic(), 0.0, list[Count]()
    for cycles in itertools.count(step=CYCLES):
        torch.set_num_threads(2)
        passed = time.monotonic() - begin
        done = passed >= seconds and cycles >= LEAST
        if done or not counts or passed >= counts[-1].seconds + 2:
            counts.append(count(passed, cycles))
        if done or passed >= told:
            print(counts[-1], flush=True)
            told = passed + 10
        if done:
            break
        use_up_an_optimizer(leak)
    return counts


def use_up_an_optimizer(leak: Callable[[], object]) -> None:
    stepped(opt := fresh())
    for _ in range(CYCLES):
        opt = cycle(opt)
        leak()


def is_flat(counts: list[Count]) -> bool:
    """Whether the straight line through each counter stays within its limit; prints the lines."""
    rows = np.array([astuple(own) for own in counts if own.cycles >= WARM_UP])
    thousands = (rows[-1, 1] - rows[0, 1]) / 1000
    slopes = np.polyfit(rows[:, 1] / 1000, rows[:, 2:], 1)[0]
    limits = [max(slow, in_all / thousands) for slow, in_all in LIMITS.values()]
    for name, slope, limit in zip(LIMITS, slopes, limits, strict=True):
        print(f"{name}: {slope:+.2f} in 1000 cycles, limit {limit:.2f}")
    return bool((slopes <= limits).all())


def leaks(kind: str | None) -> Callable[[], object]:
    kept: list[Tensor] = []
    if kind == "tensor":
        return lambda: kept.append(nn.Parameter(torch.ones(4)))
    if kind == "bytes":
        malloc = ctypes.CDLL(None).malloc
        malloc.restype = ctypes.c_void_p
        return lambda: ctypes.memset(malloc(4096), 1, 4096)
    return lambda: None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--leak", choices=["tensor", "bytes"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    flat = is_flat(soak(60 * options.minutes, leaks(options.leak)))
    print("flat" if flat else "GROWS")
    return 0 if flat else 1


if __name__ == "__main__":
    raise SystemExit(main())
