"""Find a learning rate: by a range test, by what is stable, and by letting it find itself.

python examples/find_a_learning_rate.py

A small network on scikit-learn's digits; each learning rate that is found trains it anew.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from meansquare import RMSProp, suggest_lr
from meansquare.step_size import Prodigy

pixels, digits = load_digits(return_X_y=True)
inputs, targets = torch.tensor(pixels / 16.0, dtype=torch.float32), torch.tensor(digits)
data = TensorDataset(inputs[:1400], targets[:1400])


def loss_of(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
    )


def train(model: nn.Module, optimizer: RMSProp) -> float:
    for _ in range(20):
        for batch in DataLoader(data, 32, shuffle=True):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
    with torch.no_grad():
        return loss_of(model, [inputs[1400:], targets[1400:]]).item()


# Both methods work on a copy: model, optimizer, random state and loader stay as they are.
model = new_model()
optimizer = RMSProp(model.parameters())
loader = DataLoader(data, 32, shuffle=True)
found = {
    "default": 1e-2,
    "range test": suggest_lr(model, optimizer, loss_of, loader),
    "stability meter": suggest_lr(model, optimizer, loss_of, loader, method="stability"),
}
for name, rate in found.items():
    model = new_model()
    lr = rate if isinstance(rate, float) else rate.lr
    print(f"{name}: {rate}; held-out loss {train(model, RMSProp(model.parameters(), lr=lr)):.3f}")

# Or none at all: Prodigy estimates how far the weights have to go, and sets the rate by that.
model = new_model()
optimizer = RMSProp(model.parameters())
prodigy = Prodigy(optimizer)
loss = train(model, optimizer)
print(f"Prodigy: ended at {prodigy.learning_rate:.2g}; held-out loss {loss:.3f}")
