"""Lion as a rule of your own: `meansquare compare --optimizers rmsprop,examples/lion.py:Lion`."""

import torch

from meansquare import optimizer
from meansquare.rules import sign


@optimizer(lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0)
def Lion(h, p, g, m):  # noqa: N802
    """Moves along the sign of an average of gradients (Chen et al. 2023, arXiv:2302.06675).

    u = sign(beta1*m + (1-beta1)*g);  p = (1 - lr*weight_decay)*p - lr*u
    m = beta2*m + (1-beta2)*g
    """
    u = sign(h.beta1 * m + (1 - h.beta1) * g)
    m = h.beta2 * m + (1 - h.beta2) * g
    return (1 - h.lr * h.weight_decay) * p - h.lr * u, m


if __name__ == "__main__":
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    inputs = torch.randn(256, 8)
    targets = inputs.sin().sum(1, keepdim=True)
    opt = Lion(model.parameters(), lr=3e-3, weight_decay=0.01)
    for step in range(301):
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        opt.step()
        if step % 100 == 0:
            print(f"step {step:3}: loss {loss.item():.3f}")
    opt.explain()
