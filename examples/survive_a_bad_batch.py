"""Survive a bad batch: a NaN, garbage, and a learning rate that is far too high for a while.

python examples/survive_a_bad_batch.py

Trains a small network on scikit-learn's digits twice, plainly and guarded, with the same faults.
"""

import math

import torch
from sklearn.datasets import load_digits
from torch import nn

from meansquare import Guard, RMSProp

pixels, digits = load_digits(return_X_y=True)
inputs = torch.tensor(pixels / 16.0, dtype=torch.float32)
targets = torch.tensor(digits)
train, held_out = slice(0, 1400), slice(1400, None)


def batch_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of 32, of which two in the training are bad."""
    chosen = torch.randperm(1400)[:32]
    x, y = inputs[chosen].clone(), targets[chosen]
    if step == 300:
        x[0, 0] = math.nan  # a broken sensor
    if step == 450:
        x, y = 1000 * x, y.roll(1)  # the wrong units, the wrong labels
    return x, y


def train_with(guard: Guard | None) -> float:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = RMSProp(model.named_parameters(), lr=1e-3, guard=guard)
    for step in range(800):
        optimizer.param_groups[0]["lr"] = 3e-2 if 600 <= step < 620 else 1e-3  # a wrong schedule
        x, y = batch_of(step)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        if guard is not None:
            guard.saw(loss, batch=step)  # the guard judges the loss, too
        optimizer.step()
    right = model(inputs[held_out]).argmax(1) == targets[held_out]
    return 100 * right.float().mean().item()


print(f"plain:   {train_with(None):.1f} % of the held-out digits are right")
guard = Guard(spike="rollback")  # skips what is not finite, goes back where the loss spikes
print(f"guarded: {train_with(guard):.1f} %, and this is what it did:")
for event in guard.events:
    figures = ", ".join(f"{name} {value:.3g}" for name, value in event.values.items())
    where = ", ".join(event.layers)
    print(f"  batch {event.batch}: {event.what}, {event.action} ({where}; {figures})")
