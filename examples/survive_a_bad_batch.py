"""Survive a bad batch: a NaN, garbage, and a learning rate that is far too high for a while.

python examples/survive_a_bad_batch.py

A small network on scikit-learn's digits, trained plainly and guarded, with the same faults.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from meansquare import Guard, RMSProp

pixels, digits = load_digits(return_X_y=True)
inputs = torch.tensor(pixels / 16.0, dtype=torch.float32)
targets = torch.tensor(digits)
train, held_out = slice(0, 1400), slice(1400, None)


def batch_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = torch.randperm(1400)[:32]
    x, y = inputs[chosen].clone(), targets[chosen]
    if step == 300:
        x[0, 0] = torch.nan  # a broken sensor
    if step == 450:
        x, y = 1000 * x, y.roll(1)  # the wrong units, the wrong labels
    return x, y


def train_with(guard: Guard | None) -> list[float]:
    """Per cent of the held-out digits that are right, every 20 steps."""
    told = []
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
        if step % 20 == 19:
            right = model(inputs[held_out]).argmax(1) == targets[held_out]
            told.append(100 * right.float().mean().item())
    return told


plain = train_with(None)
print(f"plain:   {plain[-1]:.1f} % of the held-out digits are right")
guard = Guard(spike="rollback")  # skips what is not finite, goes back where the loss spikes
guarded = train_with(guard)
print(f"guarded: {guarded[-1]:.1f} %, and this is what it did:")
for event in guard.events:
    figures = ", ".join(f"{name} {value:.3g}" for name, value in event.values.items())
    where = ", ".join(event.layers)
    print(f"  batch {event.batch}: {event.what}, {event.action} ({where}; {figures})")
