"""Some parameters, and an optimizer that has stepped them."""

import torch


def parameters(n=2):
    return [torch.nn.Parameter(torch.full((3,), 1.0 + i)) for i in range(n)]


def stepped(opt, times=3):
    for t in range(times):
        for group in opt.param_groups:
            for p in group["params"]:
                p.grad = torch.linspace(-1, 2, p.numel()).view_as(p) * (t + 1)
        opt.step()
    return opt
