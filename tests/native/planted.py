"""planted.py overflow|race|none: what a sanitizer has to find in the kernels, or must not."""

import sys
import threading

import torch

from meansquare import RMSProp
from meansquare.kernels import cpu

LARGE = 1 << 20  # elements; such a step lets go of the GIL


def overflow() -> None:
    """A step after the storage has shrunk under its tensor, which DLPack does not tell."""
    cpu.connect(cpu.native, "DLPack")
    opt = RMSProp([p := torch.ones(64)])
    for size in (256, 64):
        p.untyped_storage().resize_(size)
        p.grad = torch.ones(64)
        opt.step()


def step_often(params: list[torch.Tensor]) -> None:
    opt = RMSProp(params, momentum=0.9, centered=True)
    for p in params:
        p.grad = torch.ones_like(p)
    for _ in range(20):
        opt.step()


def in_threads(*sets: list[torch.Tensor]) -> None:
    cpu.native.borrow_threads("")  # torch's own do what ThreadSanitizer cannot see
    torch.set_num_threads(4)
    threads = [threading.Thread(target=step_often, args=(params,)) for params in sets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def race() -> None:
    """Two optimizers step one parameter at once."""
    same = [torch.ones(LARGE)]
    in_threads(same, same)


def none() -> None:
    """Four optimizers step tensors of many sizes at once."""
    sizes = ((LARGE, 1000, 70_001, LARGE), (400,) * 400)  # the small ones are read by all threads
    in_threads(*([torch.ones(n) for n in sizes[i % 2]] for i in range(4)))


if __name__ == "__main__":
    {"overflow": overflow, "race": race, "none": none}[sys.argv[1]]()
