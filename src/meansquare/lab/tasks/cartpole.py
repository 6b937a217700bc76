"""CartPole-v1 (Barto, Sutton and Anderson 1983; gymnasium's), many carts at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

FEATURES, ACTIONS, LONGEST = 4, 2, 500
TEST_EPISODES, VALIDATION_EPISODES = 50, 10
# Seeds of carts that no training sees, far from those of other runs.
VALIDATION_SEED, TEST_SEED = 1_000_000, 2_000_000
Policy = Callable[[Tensor], Tensor]


class Moment(NamedTuple):
    """One step of every cart, tensors of (carts,) or (carts, 4).

    `live` is False where the step only put up a new cart after an episode's end: its action was
    ignored, and there is nothing to learn from it. `terminated`: the pole fell; `ended`: that, or
    500 steps are over.
    """

    before: Tensor
    actions: Tensor
    rewards: Tensor
    after: Tensor
    terminated: Tensor
    ended: Tensor
    live: Tensor


class Carts:
    """Carts that are put up anew when their episode ends, in the step after (gymnasium's way)."""

    def __init__(self, count: int, seed: int) -> None:
        self._environments = gymnasium.make_vec(
            "CartPole-v1", num_envs=count, vectorization_mode="vector_entry_point"
        )
        first, _ = self._environments.reset(seed=seed)
        self.observed = torch.from_numpy(first)
        self._ended = torch.zeros(count, dtype=torch.bool)

    def step(self, actions: Tensor) -> Moment:
        """Push every cart: action 0 to the left, 1 to the right."""
        after, rewards, terminated, truncated, _ = self._environments.step(actions.numpy())
        moment = Moment(
            before=self.observed,
            actions=actions,
            rewards=torch.from_numpy(rewards),
            after=torch.from_numpy(after),
            terminated=torch.from_numpy(terminated.copy()),
            ended=torch.from_numpy(terminated | truncated),
            live=~self._ended,
        )
        self.observed, self._ended = moment.after, moment.ended
        return moment


@torch.no_grad()
def returns(policy: Policy, episodes: int, seed: int) -> list[float]:
    """The return of each of some episodes: for how many steps the pole stood, at most 500."""
    carts = Carts(episodes, seed)
    playing, totals = torch.ones(episodes, dtype=torch.bool), torch.zeros(episodes)
    while playing.any():
        moment = carts.step(policy(carts.observed))
        totals += moment.rewards * playing
        playing &= ~moment.ended
    return totals.tolist()


def greedy(values: Callable[[Tensor], Tensor]) -> Policy:
    """Always the action of the highest value."""
    return lambda observed: values(observed).argmax(1)


def baselines() -> Mapping[str, float]:
    """Mean returns of who learns nothing."""
    draws = torch.Generator().manual_seed(0)

    def guess(observed: Tensor) -> Tensor:
        return torch.randint(ACTIONS, (len(observed),), generator=draws)

    def follow(observed: Tensor) -> Tensor:
        return (observed[:, 2] + observed[:, 3] > 0).long()

    return {
        "guessing": mean_return(guess, TEST_EPISODES, TEST_SEED),
        "pushing to where the pole falls": mean_return(follow, TEST_EPISODES, TEST_SEED),
    }


def mean_return(policy: Policy, episodes: int, seed: int) -> float:
    return float(np.mean(returns(policy, episodes, seed)))
