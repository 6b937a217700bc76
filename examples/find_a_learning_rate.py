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
loader = DataLoader(TensorDataset(inputs[:1400], targets[:1400]), 32, shuffle=True)


def loss_of(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))


def train(model: nn.Module, optimizer: RMSProp) -> float:
    for _ in range(10):
        for batch in loader:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
    with torch.no_grad():
        return loss_of(model, [inputs[1400:], targets[1400:]]).item()


# Both methods work on a copy: model, optimizer, random state and loader stay as they are.
model = new_model()
optimizer = RMSProp(model.parameters())
for method in ("range", "stability"):
    found = suggest_lr(model, optimizer, loss_of, loader, method=method)
    again = new_model()
    end = train(again, RMSProp(again.parameters(), lr=found.lr))
    print(f"{method}: {found}; held-out loss {end:.3f}")

# Or none at all: Prodigy estimates how far the weights have to go, and sets the rate by that.
prodigy = Prodigy(optimizer)
end = train(model, optimizer)
print(f"Prodigy: ended at {prodigy.learning_rate:.2g}; held-out loss {end:.3f}")
