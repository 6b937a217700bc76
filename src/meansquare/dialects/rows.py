"""The rows: every RMSProp that is known, and what it calls its arguments and its state.

The columns and what is behind them are shown in docs/dialects.md.
"""

from collections.abc import Callable, Mapping
from typing import Any

from meansquare.dialects.row import Dialect, Spelling
from meansquare.hyper import CHECKS
from meansquare.settings import flag

Given = Mapping[str, Any]

_SCHEDULE = "use torch.optim.lr_scheduler"
_ACCUMULATE = "call backward() several times before step(), on losses divided by their number"
_AVERAGE = "use torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn"
_CLIP_EACH = "call torch.nn.utils.clip_grad_norm_([p], clipnorm) for each p before step()"
_LOSS_SCALE = "use torch.amp.GradScaler"
_NAMELESS = "leave it out, it changes no step"
_CLIP_BEFORE = "give clip_value or max_grad_norm"


def _same(*names: str) -> dict[str, Spelling]:
    """Arguments that have our names."""
    return {name: name for name in names}


def _zero_for_none(theirs: str, ours: str) -> Callable[[Given], Given]:
    return lambda given: {ours: 0.0 if given[theirs] is None else given[theirs]}


def _inside(theirs: str) -> Callable[[Given], Given]:
    return lambda given: {"eps_place": "inside" if flag(theirs, given[theirs]) else "outside"}


def _norm_without_eps(theirs: str) -> Callable[[Given], Given]:
    return lambda given: {"max_grad_norm": given[theirs], "grad_norm_eps": 0.0}


def _timm_decay(given: Given) -> Given:
    """timm corrects a decoupled decay only."""
    decoupled, corrected = (
        flag(name, given.get(name, False)) for name in ("decoupled_decay", "corrected_weight_decay")
    )
    if not decoupled:
        return {"weight_decay_mode": "l2"}
    return {"weight_decay_mode": "corrected" if corrected else "decoupled"}


def _mxnet_momentum(given: Given) -> Given:
    """MXNet reads gamma2 only where it centers, and centers with momentum only."""
    centered, gamma2 = flag("centered", given.get("centered", False)), given.get("gamma2", 0.9)
    if not centered and gamma2 != 0.9:
        raise ValueError("MXNet reads gamma2 only where centered is True; leave it out")
    return {"centered": centered, "momentum": gamma2 if centered else 0.0}


def _mxnet_clip(given: Given) -> Given:
    if given["clip_gradient"] is not None and given.get("wd", 0):
        raise ValueError(
            "MXNet 1 clips what its weight decay adds to the gradient too, which is not offered; "
            "give wd or clip_gradient, or clip_value"
        )
    return {"clip_value": given["clip_gradient"] or None}


_KERAS = _same("momentum", "centered") | {
    "learning_rate": "lr",
    "rho": "alpha",
    "epsilon": "eps",
    "clipvalue": "clip_value",
    "global_clipnorm": _norm_without_eps("global_clipnorm"),
}
_TF_REFUSED = {"use_locking": (False, _NAMELESS)}
_TF_SETTINGS = {
    "alpha": 0.9,
    "eps": 1e-10,
    "eps_place": "inside",
    "initial_square_avg": 1.0,
    "lr_in_momentum": True,
}
_INSIDE = {"alpha": 0.9, "eps_place": "inside", "lr_in_momentum": True}
_TORCH_STATE = _same("square_avg", "momentum_buffer", "grad_avg")

ROWS = (
    Dialect(
        "torch",
        "torch.optim.RMSprop",
        "torch 2.13.0, torch/optim/rmsprop.py",
        "run",
        arguments=_same(
            *("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "capturable"),
            *("foreach", "maximize", "differentiable"),
        ),
        state=_TORCH_STATE,
        settings={"lr": 1e-2},
    ),
    Dialect(
        "tf1",
        "tf.compat.v1.train.RMSPropOptimizer",
        "tensorflow 2.21.0, tensorflow/python/training/rmsprop.py",
        "run",
        settings=_TF_SETTINGS,
        arguments=_same("momentum", "centered")
        | {"learning_rate": "lr", "decay": "alpha", "epsilon": "eps"},
        state={"rms": "square_avg", "momentum": "momentum_buffer", "mg": "grad_avg"},
        refused=_TF_REFUSED,
        note="in checkpoints w/RMSProp is rms, w/RMSProp_1 momentum, or mg before it when centered",
    ),
    Dialect(
        "keras",
        "keras.optimizers.RMSprop (Keras 3, tf.keras 2.11+)",
        "keras 3.15.1, keras/src/optimizers/rmsprop.py; tf_keras 2.21.0",
        "run",
        settings=_INSIDE | {"lr": 1e-3, "eps": 1e-7, "weight_decay_mode": "decoupled"},
        arguments=_KERAS | {"weight_decay": _zero_for_none("weight_decay", "weight_decay")},
        state={
            "velocity": "square_avg",
            "momentum": "momentum_buffer",
            "average_gradient": "grad_avg",
        },
        refused={
            "clipnorm": (None, _CLIP_EACH),
            "use_ema": (False, _AVERAGE),
            "ema_momentum": (0.99, _AVERAGE),
            "ema_overwrite_frequency": (None, _AVERAGE),
            "loss_scale_factor": (None, _LOSS_SCALE),
            "gradient_accumulation_steps": (None, _ACCUMULATE),
        },
    ),
    Dialect(
        "tf_keras_legacy",
        "tf.keras.optimizers.legacy.RMSprop (tf.keras before 2.11)",
        "tf_keras 2.21.0, tf_keras/src/optimizers/legacy/rmsprop.py",
        "run",
        settings=_INSIDE | {"lr": 1e-3, "eps": 1e-7, "eps_place": "inside_with_momentum"},
        arguments=_KERAS,
        state={"rms": "square_avg", "momentum": "momentum_buffer", "mg": "grad_avg"},
        refused={
            "clipnorm": (None, _CLIP_EACH),
            "decay": (0.0, f"{_SCHEDULE}.LambdaLR(opt, lambda t: 1/(1 + decay*t))"),
        },
        note="eps is outside the root without momentum and inside with it",
    ),
    Dialect(
        "optax",
        "optax.rmsprop",
        "optax 0.2.8, optax/_src/alias.py and transform.py",
        "run",
        settings=_INSIDE,
        arguments=_same("eps", "centered", "nesterov", "bias_correction")
        | {
            "learning_rate": "lr",
            "decay": "alpha",
            "initial_scale": "initial_square_avg",
            "eps_in_sqrt": _inside("eps_in_sqrt"),
            "momentum": _zero_for_none("momentum", "momentum"),
        },
        state={"nu": "square_avg", "trace": "-momentum_buffer", "mu": "grad_avg"},
        note="centered with bias_correction it divides by the root of zero in its first step",
    ),
    Dialect(
        "jax",
        "jax.example_libraries.optimizers.rmsprop, rmsprop_momentum",
        "jax 0.10.2, jax/example_libraries/optimizers.py",
        "run",
        settings=_INSIDE,
        arguments=_same("eps", "momentum") | {"step_size": "lr", "gamma": "alpha"},
        state={"avg_sq_grad": "square_avg", "mom": "momentum_buffer"},
        note="momentum is that of rmsprop_momentum, whose default is 0.9",
    ),
    Dialect(
        "timm",
        "timm.optim.RMSpropTF",
        "timm 1.0.31, timm/optim/rmsprop_tf.py",
        "run",
        settings=_TF_SETTINGS | {"lr": 1e-2},
        arguments=_same(
            *("lr", "alpha", "eps", "weight_decay", "momentum", "centered"),
            *("lr_in_momentum", "foreach"),
        )
        | {
            "decoupled_decay": _timm_decay,
            "corrected_weight_decay": _timm_decay,
            "max_lr_snapshot": "reference_lr",
            "caution": "cautious",
        },
        state=_TORCH_STATE,
        note="a corrected decay is relative to the learning rate that the constructor was given",
    ),
    Dialect(
        "sb3",
        "stable_baselines3.common.sb2_compat RMSpropTFLike",
        "stable-baselines3 2.9.2, common/sb2_compat/rmsprop_tf_like.py",
        "run",
        settings={"lr": 1e-2, "eps_place": "inside", "initial_square_avg": 1.0},
        arguments=_same("lr", "alpha", "eps", "weight_decay", "momentum", "centered"),
        state=_TORCH_STATE,
        note="the default optimizer of its A2C is torch's",
    ),
    Dialect(
        "sonnet",
        "sonnet.optimizers.RMSProp (Sonnet 2)",
        "dm-sonnet 2.0.2, sonnet/src/optimizers/rmsprop.py",
        "run",
        settings=_INSIDE | {"eps": 1e-10},
        arguments=_same("momentum", "centered")
        | {"learning_rate": "lr", "decay": "alpha", "epsilon": "eps"},
        state={"ms": "square_avg", "mom": "momentum_buffer", "mg": "grad_avg"},
        note="v begins at 0, where TensorFlow 1 has 1",
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
        refused={"lr_end": (None, _SCHEDULE), "lr_endt": (1e6, _SCHEDULE)},
        note="its gradient is summed over the 32 samples; momentum .95 in tables is that of g",
    ),
    Dialect(
        "graves",
        "Graves 2013, equations 38-45; chainer.optimizers.RMSpropGraves",
        "chainer 7.8.1, chainer/optimizers/rmsprop_graves.py",
        "run",
        settings={
            "lr": 1e-4,
            "alpha": 0.95,
            "eps": 1e-4,
            "momentum": 0.9,
            "eps_place": "inside",
            "centered": True,
            "lr_in_momentum": True,
        },
        arguments=_same("lr", "alpha", "momentum", "eps"),
        state={"n": "square_avg", "g": "grad_avg", "delta": "-momentum_buffer"},
    ),
    Dialect(
        "chainer",
        "chainer.optimizers.RMSprop",
        "chainer 7.8.1, chainer/optimizers/rmsprop.py",
        "run",
        settings={"lr": 1e-2},
        arguments=_same("lr", "alpha", "eps") | {"eps_inside_sqrt": _inside("eps_inside_sqrt")},
        state={"ms": "square_avg"},
    ),
    Dialect(
        "mxnet",
        "mxnet.optimizer.RMSProp (MXNet 1)",
        "mxnet 1.9.1, src/operator/optimizer_op-inl.h",
        "run",
        settings=_INSIDE | {"lr": 1e-3},
        arguments={
            "learning_rate": "lr",
            "gamma1": "alpha",
            "gamma2": _mxnet_momentum,
            "epsilon": "eps",
            "centered": _mxnet_momentum,
            "wd": "weight_decay",
            "clip_gradient": _mxnet_clip,
        },
        state={"n": "square_avg", "g": "grad_avg", "delta": "-momentum_buffer"},
        refused={
            "clip_weights": (None, "clamp the parameters after step()"),
            "rescale_grad": (1.0, "multiply the loss by it"),
            "lr_scheduler": (None, _SCHEDULE),
        },
        note="MXNet 2 has eps outside the root unless centered, and calls gamma1 rho",
    ),
    Dialect(
        "paddle",
        "paddle.optimizer.RMSProp",
        "paddlepaddle 3.3.1, paddle/phi/kernels/impl/rmsprop_kernel_impl.h",
        "run",
        settings=_INSIDE | {"alpha": 0.95, "eps": 1e-6},
        arguments=_same("momentum", "centered")
        | {
            "learning_rate": "lr",
            "rho": "alpha",
            "epsilon": "eps",
            "weight_decay": _zero_for_none("weight_decay", "weight_decay"),
        },
        state={
            "mean_square": "square_avg",
            "momentum": "momentum_buffer",
            "mean_grad": "grad_avg",
        },
        refused={"grad_clip": (None, _CLIP_BEFORE)},
        note="its documentation says Nesterov; its momentum is heavy ball",
    ),
    Dialect(
        "mlx",
        "mlx.optimizers.RMSprop",
        "mlx 0.32.4, mlx/optimizers/optimizers.py",
        "run",
        arguments=_same("alpha", "eps") | {"learning_rate": "lr"},
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
    Dialect(
        "river",
        "river.optim.RMSProp",
        "river 0.26.1, river/optim/rms_prop.py",
        "run",
        settings=_INSIDE | {"lr": 0.1},
        arguments=_same("lr", "eps") | {"rho": "alpha"},
        state={"g2": "square_avg"},
        note="of a dict it steps, and decays, only the keys that are there",
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
        "bitsandbytes",
        "bitsandbytes.optim.RMSprop",
        "bitsandbytes 0.50.2, bitsandbytes/optim/rmsprop.py, with 32 bits of state",
        "run",
        settings={"lr": 1e-2},
        arguments=_same("lr", "alpha", "eps", "weight_decay"),
        state={"state1": "square_avg"},
        refused={
            "momentum": (0.0, "it takes momentum and does not read it; for torch's, dialect torch"),
            "centered": (False, "it refuses that too; for torch's, dialect torch"),
            "optim_bits": (32, "leave it out: state has 32 bits"),
            "args": (None, _NAMELESS),
            "min_8bit_size": (4096, "leave it out: state has 32 bits"),
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
        arguments=_same("lr", "eps", "weight_decay")
        | {"betas": lambda given: {"alpha": CHECKS["betas"]("betas", given["betas"])[1]}},
        state={"exp_avg_sq": "square_avg/(1-alpha**t)"},
        refused={
            "warmup_steps": (0, f"{_SCHEDULE}.LinearLR"),
            "cautious_weight_decay": (False, "leave it out"),
            "caution": (False, "without momentum it moves the same weights; leave it out"),
            "mars": (False, "leave it out"),
            "gradient_clipping": (None, _CLIP_BEFORE),
            "update_clipping": (None, "give max_update_rms"),
        },
        note="of betas only the second is read",
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
        "steady",
        "meansquare's own recommendation",
        "this repository",
        "own",
        settings={
            "lr": 1e-3,
            "bias_correction": True,
            "weight_decay_mode": "decoupled",
            "max_update_rms": 1.0,
        },
        state=_TORCH_STATE,
        note="no first step of ten times lr, no decay that is divided away, no step above lr in size",
    ),
)
