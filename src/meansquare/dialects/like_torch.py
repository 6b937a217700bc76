"""Rows in which the learning rate scales the momentum buffer on its way out, as in torch.

What is behind them is told in docs/dialects.md.
"""

from meansquare.dialects.row import Dialect, Given
from meansquare.dialects.spelling import (
    CLIP,
    LEAVE_OUT,
    SCHEDULE,
    TORCH_STATE,
    inside,
    left_out,
    same,
)
from meansquare.hyper import CHECKS


def _second(given: Given) -> Given:
    """heavyball reads the second of betas only."""
    return {"alpha": CHECKS["betas"]("betas", given["betas"])[1]}


ROWS = (
    Dialect(
        "torch",
        "torch.optim.RMSprop",
        "torch 2.13.0, torch/optim/rmsprop.py",
        "run",
        arguments=same(
            *("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "capturable"),
            *("foreach", "maximize", "differentiable"),
        ),
        state=TORCH_STATE,
        settings={"lr": 1e-2},
    ),
    Dialect(
        "steady",
        "meansquare's own recommendation",
        "this repository",
        "own",
        settings={
            "lr": 1e-3,
            "eps_place": "max",
            "bias_correction": True,
            "weight_decay_mode": "decoupled",
            "max_update_rms": 1.0,
        },
        state=TORCH_STATE,
        note="no first step of ten times lr; no update of a tensor whose rms is above lr",
    ),
    Dialect(
        "hinton",
        "Hinton 2012, lecture 6e",
        "Neural Networks for Machine Learning, lecture 6e, slide 29",
        "read",
        settings={"alpha": 0.9, "eps": 0.0},
        state={"MeanSquare": "square_avg"},
        note="the slides name neither an eps nor a learning rate",
    ),
    Dialect(
        "torch7",
        "optim.rmsprop (Torch7)",
        "torch/optim a5ceed7, rmsprop.lua",
        "read",
        settings={"lr": 1e-2},
        arguments={
            "learningRate": "lr",
            "alpha": "alpha",
            "epsilon": "eps",
            "weightDecay": "weight_decay",
            "initialMean": "initial_square_avg",
        },
        state={"m": "square_avg"},
        note="between June and September 2016 v began at 1",
    ),
    Dialect(
        "sb3",
        "stable_baselines3.common.sb2_compat RMSpropTFLike",
        "stable-baselines3 2.9.2, common/sb2_compat/rmsprop_tf_like.py",
        "run",
        settings={"lr": 1e-2, "eps_place": "inside", "initial_square_avg": 1.0},
        arguments=same("lr", "alpha", "eps", "weight_decay", "momentum", "centered"),
        state=TORCH_STATE,
        note="the default optimizer of its A2C is torch's",
    ),
    Dialect(
        "dqn",
        "DQN of Mnih et al. 2015, in their Lua",
        "DeepMind-Atari-Deep-Q-Learner ff6086c, dqn/NeuralQLearner.lua and run_gpu",
        "read",
        settings={
            "lr": 2.5e-4,
            "alpha": 0.95,
            "eps": 0.01,
            "eps_place": "inside",
            "centered": True,
        },
        arguments={"lr": "lr", "wc": "weight_decay"},
        state={"g2": "square_avg", "g": "-grad_avg"},
        refused={"lr_end": (None, SCHEDULE), "lr_endt": (1e6, SCHEDULE)},
        note="its gradient is summed over the 32 samples; momentum .95 in tables is that of g",
    ),
    Dialect(
        "bitsandbytes",
        "bitsandbytes.optim.RMSprop",
        "bitsandbytes 0.50.2, bitsandbytes/optim/rmsprop.py, with 32 bits of state",
        "run",
        settings={"lr": 1e-2},
        arguments=same("lr", "alpha", "eps", "weight_decay"),
        state={"state1": "square_avg"},
        refused={
            "momentum": (0.0, "it takes momentum and does not read it; for torch's, dialect torch"),
            "centered": (False, "it refuses that too; for torch's, dialect torch"),
            "optim_bits": (32, LEAVE_OUT),
            "args": (None, LEAVE_OUT),
            "min_8bit_size": (4096, LEAVE_OUT),
        },
        note="its momentum is ignored",
    ),
    Dialect(
        "heavyball",
        "heavyball.RMSprop",
        "heavyball 3.2.1, heavyball/chainable.py and utils.py",
        "run",
        settings={
            "lr": 2.5e-3,
            "eps": 1e-6,
            "eps_place": "max",
            "bias_correction": True,
            "weight_decay_mode": "decoupled",
        },
        arguments=same("lr", "eps", "weight_decay") | {"betas": ("alpha", _second)},
        state={"exp_avg_sq": "square_avg/(1-alpha**t)"},
        refused={
            "warmup_steps": (0, f"{SCHEDULE}.LinearLR"),
            "cautious_weight_decay": (False, LEAVE_OUT),
            "caution": (False, "without momentum it moves the same weights; leave it out"),
            "mars": (False, LEAVE_OUT),
            "gradient_clipping": (None, CLIP),
            "update_clipping": (None, "give max_update_rms"),
            "storage_dtype": ("float32", LEAVE_OUT),
        }
        | left_out(
            *("r", "weight_lr_power", "multi_tensor", "mars_gamma", "palm", "beta2_scale"),
            *("compile_step", "promote", "ecc", "param_ecc", "orig_shapes"),
        ),
        note="of betas only the second is read",
    ),
    Dialect(
        "chainer",
        "chainer.optimizers.RMSprop",
        "chainer 7.8.1, chainer/optimizers/rmsprop.py",
        "run",
        settings={"lr": 1e-2},
        arguments=same("lr", "alpha", "eps") | {"eps_inside_sqrt": inside("eps_inside_sqrt")},
        state={"ms": "square_avg"},
    ),
    Dialect(
        "mlx",
        "mlx.optimizers.RMSprop",
        "mlx 0.32.4, mlx/optimizers/optimizers.py",
        "run",
        arguments=same("alpha", "eps") | {"learning_rate": "lr"},
        state={"v": "square_avg"},
    ),
    Dialect(
        "flux",
        "Optimisers.RMSProp (Optimisers.jl; Flux 0.7 and later)",
        "Optimisers.jl 0.4.8, src/rules.jl",
        "read",
        settings={"lr": 1e-3, "alpha": 0.9},
        arguments={"eta": "lr", "rho": "alpha", "epsilon": "eps", "centred": "centered"},
        state={"quad": "square_avg", "lin": "grad_avg"},
        note="Flux 0.6 had eps inside the root",
    ),
)
