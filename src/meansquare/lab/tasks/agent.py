"""What both agents share: how a run is judged while it learns, and what the report says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean

from torch import Tensor, nn

from meansquare.lab.tasks import Facts, Score
from meansquare.lab.tasks.cartpole import (
    TEST_EPISODES,
    TEST_SEED,
    VALIDATION_EPISODES,
    VALIDATION_SEED,
    baselines,
    greedy,
    mean_return,
)

TARGET = 195.0  # mean return at which CartPole was first called solved (OpenAI Gym, 2016)


class Judged:
    """A run whose greedy play is looked at after each period."""

    def __init__(self, values: Callable[[Tensor], Tensor], seed: int) -> None:
        self._policy, self._seed = greedy(values), seed
        self._seen: list[float] = []

    def validate(self) -> Score:
        """Chosen by the mean over the periods so far: who learns early and stays good is better."""
        episodes, seed = VALIDATION_EPISODES, VALIDATION_SEED + self._seed
        self._seen.append(mean_return(self._policy, episodes, seed))
        return Score(-fmean(self._seen), self._seen[-1])

    def test(self) -> float:
        return mean_return(self._policy, TEST_EPISODES, TEST_SEED + self._seed)

    def series(self) -> Mapping[str, list[float]]:
        return {}


def facts(name: str, title: str, network: nn.Module, model: str, batch_size: int, epoch: str,
          notes: str) -> Facts:  # fmt: skip
    return Facts(
        name=name,
        title=title,
        kind="agent",
        model=model,
        parameters=sum(weight.numel() for weight in network.parameters()),
        batch_size=batch_size,
        sizes={"validation episodes": VALIDATION_EPISODES, "test episodes": TEST_EPISODES},
        metric="mean return",
        unit="-",
        higher_is_better=True,
        baselines=baselines(),
        target=TARGET,
        notes=f"gymnasium's CartPole-v1, at most 500. {notes} After each period the greedy policy "
        f"plays {VALIDATION_EPISODES} episodes; a setting is chosen by the mean of all of these.",
        epoch=epoch,
        blow_up=None,  # a loss of an agent says little
    )
