"""Recipes are arguments of RMSProp, each from a file that is named."""

import re

import pytest
import torch

from meansquare import RMSProp, recipe
from meansquare.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_the_optimizer(name):
    one = recipe(name)
    opt = RMSProp([torch.nn.Parameter(torch.ones(2))], **one)
    assert opt.param_groups[0]["dialect"] == one["dialect"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_a_file_of_a_commit(name):
    assert re.search(
        r"[\w.-]+/[\w.-]+ [0-9a-f]{7}.*, .*\w\.(py|lua|yaml|gin|md|mdx)", recipe(name).source
    )


def test_those_that_people_ask_for_are_there():
    asked = (
        "dqn-nature a2c pymarl dpo efficientnet inception-v3 mobilenet-v2 wgan graves-2013 impala"
    )
    assert {*asked.split(), "char-rnn"} <= set(RECIPES)


FACTS = [  # as the files have them, in our words
    ("dqn-nature", {"lr": 2.5e-4, "alpha": 0.95, "eps": 0.01, "momentum": 0.0, "centered": True}),
    ("dqn-minatar", {"eps_place": "outside", "momentum": 0, "centered": True}),
    ("a2c", {"initial_square_avg": 1.0, "eps_place": "inside", "max_grad_norm": 0.5}),
    ("a2c-sb3", {"initial_square_avg": 0.0, "eps_place": "outside", "max_grad_norm": 0.5}),
    ("dpo", {"lr": 5e-7, "alpha": 0.99, "max_grad_norm": 10.0}),
    ("inception-v3", {"eps": 1.0, "momentum": 0.9, "lr_in_momentum": True}),
    ("mobilenet-v3", {"eps": 0.0316, "eps_place": "outside"}),
    ("impala", {"eps": 0.1, "momentum": 0.0}),
    ("char-rnn", {"lr": 2e-3, "alpha": 0.95, "clip_value": 5.0}),
]


@pytest.mark.parametrize(("name", "settings"), FACTS)
def test_a_recipe_means_what_its_file_says(name, settings):
    (group,) = RMSProp([torch.nn.Parameter(torch.ones(2))], **recipe(name)).param_groups
    assert {setting: group[setting] for setting in settings} == settings


def test_a_setting_of_a_recipe_can_be_replaced():
    (group,) = RMSProp([torch.ones(2)], **{**recipe("wgan"), "lr": 0.5}).param_groups
    assert group["lr"] == 0.5


@pytest.mark.parametrize(
    ("name", "words"),
    [("dqn", "did you mean 'dqn-nature'"), ("inception", "'inception-v3'"), (None, "called None")],
)
def test_a_name_that_there_is_not_is_refused_in_one_line(name, words):
    with pytest.raises(ValueError, match="recipe: none is called") as caught:
        recipe(name)
    assert words in str(caught.value)
