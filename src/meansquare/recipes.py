"""Recipes: the RMSProp settings of well-known trainings, each with the file it is from."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meansquare.settings import shown


@dataclass(frozen=True, eq=False)
class Recipe(Mapping[str, Any]):
    """The arguments of `RMSProp` for a known training; `RMSProp(params, **recipe)` builds it.

    `source` is the file that they were read in (repository, commit and path); `besides` is what
    belongs to the training and is not the optimizer's.
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    source: str
    besides: str

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)


def recipe(name: str) -> Recipe:
    """The recipe of this name, for `RMSProp(params, **recipe(name))`.

    Raises ValueError for a name that there is not.

    >>> dict(recipe("wgan"))
    {'dialect': 'torch', 'lr': 5e-05}
    """
    if isinstance(name, str) and name in RECIPES:
        return RECIPES[name]
    near = [one for one in RECIPES if one.startswith(f"{name}-")]
    near += difflib.get_close_matches(str(name).lower(), RECIPES, n=1)
    hint = f"did you mean {near[0]!r}? There are" if near else "there are"
    raise ValueError(f"recipe: none is called {shown(name)}; {hint} {', '.join(RECIPES)}")


_BASELINES = "openai/baselines ea25b9e"
_TPU = "tensorflow/tpu 7dc921f"

_ALL = (
    Recipe(
        "dqn-nature",
        "DQN, Mnih et al. 2015",
        {"dialect": "dqn", "lr": 2.5e-4},
        "kuz/DeepMind-Atari-Deep-Q-Learner ff6086c, dqn/NeuralQLearner.lua and run_gpu",
        "gradients summed over 32 samples (of a mean loss eps is 0.01/32**2), errors clipped to 1",
    ),
    Recipe(
        "dqn-zoo",
        "DQN in JAX, DeepMind",
        {
            "dialect": "optax",
            "learning_rate": 2.5e-4,
            "decay": 0.95,
            "eps": 0.01 / 32**2,
            "centered": True,
        },
        "deepmind/dqn_zoo f87bb1f, dqn_zoo/dqn/run_atari.py",
        "batches of 32, gradients of the error clipped to 1/32",
    ),
    Recipe(
        "dqn-dopamine",
        "DQN in Dopamine",
        {
            "dialect": "tf1",
            "learning_rate": 2.5e-4,
            "decay": 0.95,
            "epsilon": 1e-5,
            "centered": True,
        },
        "google/dopamine 5873f54, dopamine/tf/agents/dqn/configs/dqn.gin",
        "batches of 32, mean Huber loss",
    ),
    Recipe(
        "dqn-minatar",
        "DQN on MinAtar",
        {"dialect": "torch", "lr": 2.5e-4, "alpha": 0.95, "eps": 0.01, "centered": True},
        "kenjyoung/MinAtar 4241f24, examples/dqn.py",
        "batches of 32, mean Huber loss; its GRAD_MOMENTUM was declared and never used",
    ),
    Recipe(
        "a2c",
        "A2C in OpenAI Baselines",
        {
            "dialect": "tf1",
            "learning_rate": 7e-4,
            "decay": 0.99,
            "epsilon": 1e-5,
            "max_grad_norm": 0.5,
        },
        f"{_BASELINES}, baselines/a2c/a2c.py",
        "5 steps of each environment a batch; lr falls to 0 along a line",
    ),
    Recipe(
        "a2c-sb3",
        "A2C in Stable-Baselines3",
        {"dialect": "torch", "lr": 7e-4, "alpha": 0.99, "eps": 1e-5, "max_grad_norm": 0.5},
        "DLR-RM/stable-baselines3 e05d2db, stable_baselines3/a2c/a2c.py",
        "5 steps of each environment a batch; its documentation names dialect sb3 to match a2c",
    ),
    Recipe(
        "acer",
        "ACER in OpenAI Baselines",
        {
            "dialect": "tf1",
            "learning_rate": 7e-4,
            "decay": 0.99,
            "epsilon": 1e-5,
            "max_grad_norm": 10.0,
        },
        f"{_BASELINES}, baselines/acer/acer.py",
        "20 steps of each environment a batch; lr falls along a line",
    ),
    Recipe(
        "pymarl",
        "QMIX, VDN and IQL in PyMARL",
        {"dialect": "torch", "lr": 5e-4, "alpha": 0.99, "eps": 1e-5, "max_grad_norm": 10.0},
        "oxwhirl/pymarl c971afd, src/config/default.yaml and src/learners/q_learner.py",
        "batches of 32 episodes",
    ),
    Recipe(
        "impala",
        "IMPALA on DMLab",
        {
            "dialect": "tf1",
            "learning_rate": 4.8e-4,
            "decay": 0.99,
            "momentum": 0.0,
            "epsilon": 0.1,
        },
        "deepmind/scalable_agent 6c0c8a7, experiment.py",
        "losses are sums over time and batch; lr falls to 0 along a line",
    ),
    Recipe(
        "torchbeast",
        "IMPALA on Atari, in TorchBeast",
        {"dialect": "torch", "lr": 4.8e-4, "alpha": 0.99, "eps": 0.01, "max_grad_norm": 40.0},
        "facebookresearch/torchbeast 0af07b0, torchbeast/monobeast.py",
        "batches of 8, losses are sums; lr falls to 0 along a line",
    ),
    Recipe(
        "dpo",
        "Direct preference optimization",
        {"dialect": "torch", "lr": 5e-7, "max_grad_norm": 10.0},
        "eric-mitchell/direct-preference-optimization f8b8c0f, config/config.yaml",
        "lr rises over the first 150 steps",
    ),
    Recipe(
        "efficientnet",
        "EfficientNet",
        {
            "dialect": "tf1",
            "learning_rate": 0.016,
            "decay": 0.9,
            "momentum": 0.9,
            "epsilon": 1e-3,
            "weight_decay": 1e-5,
        },
        f"{_TPU}, models/official/efficientnet/main.py and utils.py",
        "lr is for each 256 of a batch (2048), rises over 5 epochs, then x0.97 in 2.4 epochs; no "
        "decay of batch norms",
    ),
    Recipe(
        "efficientnet-timm",
        "EfficientNet-B2 in timm",
        {
            "dialect": "timm",
            "lr": 0.016,
            "alpha": 0.9,
            "momentum": 0.9,
            "eps": 1e-3,
            "weight_decay": 1e-5,
        },
        "huggingface/pytorch-image-models 899aa94, hfdocs/source/training_script.mdx, train.py and "
        "timm/optim/_optim_factory.py",
        "batches of 256, lr x0.97 in 2.4 epochs; no decay of parameters with one dimension",
    ),
    Recipe(
        "mnasnet",
        "MnasNet",
        {
            "dialect": "tf1",
            "learning_rate": 0.016,
            "decay": 0.9,
            "momentum": 0.9,
            "epsilon": 1e-3,
            "weight_decay": 1e-5,
        },
        f"{_TPU}, models/official/mnasnet/mnasnet_main.py and configs/mnasnet_config.py",
        "lr is for each 256 of a batch (1024); as efficientnet",
    ),
    Recipe(
        "inception-v3",
        "Inception-v3",
        {
            "dialect": "tf1",
            "learning_rate": 0.1,
            "decay": 0.9,
            "momentum": 0.9,
            "epsilon": 1.0,
        },
        "tensorflow/models 4f77686, research/inception/inception/inception_train.py",
        "lr x0.16 in 30 epochs; so large an eps makes it momentum, nearly",
    ),
    Recipe(
        "mobilenet-v2",
        "MobileNet v2",
        {
            "dialect": "tf1",
            "learning_rate": 0.045,
            "decay": 0.9,
            "momentum": 0.9,
            "epsilon": 1.0,
            "weight_decay": 4e-5,
        },
        "tensorflow/models 0ba83cf and 07ed366, research/slim/nets/mobilenet/README.md and "
        "train_image_classifier.py",
        "lr is for each GPU, batches of 96, lr x0.98 in 2.5 epochs",
    ),
    Recipe(
        "mobilenet-v3",
        "MobileNet v3 in torchvision",
        {
            "dialect": "torch",
            "lr": 0.064,
            "alpha": 0.9,
            "momentum": 0.9,
            "eps": 0.0316,
            "weight_decay": 1e-5,
        },
        "pytorch/vision 017e9b9, references/classification/train.py and README.md",
        "8 GPUs with batches of 128, lr x0.973 in 2 epochs; eps is the root of TensorFlow's 0.001",
    ),
    Recipe(
        "wgan",
        "Wasserstein GAN",
        {"dialect": "torch", "lr": 5e-5},
        "martinarjovsky/WassersteinGAN f7a01e8, main.py",
        "batches of 64; weights of the critic are clamped to [-0.01, 0.01]",
    ),
    Recipe(
        "graves-2013",
        "Generating sequences with recurrent networks",
        {"dialect": "graves", "lr": 1e-4, "alpha": 0.95, "momentum": 0.9, "eps": 1e-4},
        "chainer/chainer a8e15cb, chainer/optimizers/rmsprop_graves.py; arXiv:1308.0850, 38-45",
        "derivatives are clipped within backpropagation, to 100 at the outputs and 10 in the LSTM",
    ),
    Recipe(
        "char-rnn",
        "char-rnn, Karpathy 2015",
        {"dialect": "torch7", "learningRate": 2e-3, "alpha": 0.95, "clip_value": 5.0},
        "karpathy/char-rnn 6f9487a, train.lua",
        "batches of 50 sequences of 50; from epoch 10 on lr x0.97 an epoch",
    ),
    Recipe(
        "dnc",
        "Differentiable neural computer, repeat-copy",
        {
            "dialect": "tf1",
            "learning_rate": 1e-4,
            "epsilon": 1e-10,
            "max_grad_norm": 50.0,
        },
        "deepmind/dnc d3d94b3, train.py",
        "batches of 16",
    ),
)

RECIPES: Mapping[str, Recipe] = {one.name: one for one in _ALL}
