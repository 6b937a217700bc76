"""Rows in which the learning rate enters the momentum buffer, as in TensorFlow.

What is behind them is told in docs/dialects.md.
"""

from meansquare.dialects.row import Dialect, Given
from meansquare.dialects.spelling import (
    CLIP,
    SCHEDULE,
    TORCH_STATE,
    inside,
    left_out,
    same,
    zero_for_none,
)
from meansquare.settings import flag, number

_ACCUMULATE = "call backward() several times before step(), on losses divided by their number"
_AVERAGE = "use torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn"
_CLIP_EACH = "call torch.nn.utils.clip_grad_norm_([p], clipnorm) for each p before step()"
_LOSS_SCALE = "use torch.amp.GradScaler"


def _timm_decay(given: Given) -> Given:
    """timm corrects a decoupled decay only."""
    decoupled, corrected = (
        flag(name, given.get(name, False)) for name in ("decoupled_decay", "corrected_weight_decay")
    )
    if not decoupled:
        return {"weight_decay_mode": "l2"}
    return {"weight_decay_mode": "corrected" if corrected else "decoupled"}


def _keras_clip(given: Given) -> Given:
    value, norm = given.get("clipvalue"), given.get("global_clipnorm")
    if value is not None and norm is not None:
        raise ValueError("clipvalue and global_clipnorm are not offered together; give one of them")
    scaled = {} if norm is None else {"max_grad_norm": norm}
    return scaled | ({} if value is None else {"clip_value": value})


def _mxnet_momentum(given: Given) -> Given:
    """MXNet reads gamma2 only where it centers, and centers with momentum only."""
    centered = flag("centered", given.get("centered", False))
    gamma2 = number("gamma2", given.get("gamma2", 0.9))
    if not centered and gamma2 != 0.9:
        raise ValueError("MXNet reads gamma2 only where centered is True; leave it out")
    return {"centered": centered, "momentum": gamma2 if centered else 0.0}


def _mxnet_clip(given: Given) -> Given:
    clip = given.get("clip_gradient")
    if clip and (given.get("wd") or given.get("weight_decay")):
        raise ValueError(
            "MXNet 1 clips what its weight decay adds to the gradient too, which is not offered; "
            "give wd or clip_gradient, or clip_value"
        )
    decay = {"weight_decay": given["wd"]} if "wd" in given else {}
    return decay | ({"clip_value": clip or None} if "clip_gradient" in given else {})


_KERAS = same("momentum", "centered") | {
    "learning_rate": "lr",
    "rho": "alpha",
    "epsilon": "eps",
    "clipvalue": ("clip_value", _keras_clip),
    "global_clipnorm": ("max_grad_norm", _keras_clip),
}
_TF_REFUSED = left_out("use_locking", "name")
_TF_SETTINGS = {
    "alpha": 0.9,
    "eps": 1e-10,
    "eps_place": "inside",
    "initial_square_avg": 1.0,
    "lr_in_momentum": True,
}
_INSIDE = {
    "alpha": 0.9,
    "eps_place": "inside",
    "lr_in_momentum": True,
    "grad_norm_eps": 0.0,
}

ROWS = (
    Dialect(
        "tf1",
        "tf.compat.v1.train.RMSPropOptimizer",
        "tensorflow 2.21.0, tensorflow/python/training/rmsprop.py",
        "run",
        settings=_TF_SETTINGS | {"grad_norm_eps": 0.0},
        arguments=same("momentum", "centered")
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
        arguments=_KERAS | {"weight_decay": zero_for_none("weight_decay")},
        state={
            "velocity": "square_avg",
            "momentum": "momentum_buffer",
            "average_gradient": "grad_avg",
        },
        refused={
            "clipnorm": (None, _CLIP_EACH),
            "use_ema": (False, _AVERAGE),
            "ema_momentum": (0.99, _AVERAGE),
            "ema_overwrite_frequency": (100, _AVERAGE),
            "loss_scale_factor": (None, _LOSS_SCALE),
            "gradient_accumulation_steps": (None, _ACCUMULATE),
        }
        | left_out("name", "jit_compile"),
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
            "decay": (0.0, f"{SCHEDULE}.LambdaLR(opt, lambda t: 1/(1 + decay*t))"),
        }
        | left_out("name"),
        note="eps is outside the root without momentum and inside with it",
    ),
    Dialect(
        "sonnet",
        "sonnet.optimizers.RMSProp (Sonnet 2)",
        "dm-sonnet 2.0.2, sonnet/src/optimizers/rmsprop.py",
        "run",
        settings=_INSIDE | {"eps": 1e-10},
        arguments=same("momentum", "centered")
        | {"learning_rate": "lr", "decay": "alpha", "epsilon": "eps"},
        state={"ms": "square_avg", "mom": "momentum_buffer", "mg": "grad_avg"},
        note="v begins at 0, where TensorFlow 1 has 1",
    ),
    Dialect(
        "optax",
        "optax.rmsprop",
        "optax 0.2.8, optax/_src/alias.py and transform.py",
        "run",
        settings=_INSIDE,
        arguments=same("eps", "centered", "nesterov", "bias_correction")
        | {
            "learning_rate": "lr",
            "decay": "alpha",
            "initial_scale": "initial_square_avg",
            "eps_in_sqrt": inside("eps_in_sqrt"),
            "momentum": zero_for_none("momentum"),
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
        arguments=same("eps", "momentum") | {"step_size": "lr", "gamma": "alpha"},
        state={"avg_sq_grad": "square_avg", "mom": "momentum_buffer"},
        note="momentum is that of rmsprop_momentum, whose default is 0.9",
    ),
    Dialect(
        "timm",
        "timm.optim.RMSpropTF",
        "timm 1.0.31, timm/optim/rmsprop_tf.py",
        "run",
        settings=_TF_SETTINGS | {"lr": 1e-2},
        arguments=same(
            *("lr", "alpha", "eps", "weight_decay", "momentum", "centered"),
            *("lr_in_momentum", "foreach"),
        )
        | {
            "decoupled_decay": ("weight_decay_mode", _timm_decay),
            "corrected_weight_decay": ("weight_decay_mode", _timm_decay),
            "max_lr_snapshot": "reference_lr",
            "caution": "cautious",
        },
        state=TORCH_STATE,
        note="a corrected decay is relative to the learning rate that the constructor was given",
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
        arguments=same("lr", "alpha", "momentum", "eps"),
        state={"n": "square_avg", "g": "grad_avg", "delta": "-momentum_buffer"},
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
            "gamma2": ("momentum", _mxnet_momentum),
            "epsilon": "eps",
            "centered": ("centered", _mxnet_momentum),
            "wd": ("weight_decay", _mxnet_clip),
            "clip_gradient": ("clip_value", _mxnet_clip),
        },
        state={"n": "square_avg", "g": "grad_avg", "delta": "-momentum_buffer"},
        refused={
            "clip_weights": (None, "clamp the parameters after step()"),
            "rescale_grad": (1.0, "multiply the loss by it"),
            "lr_scheduler": (None, SCHEDULE),
        }
        | left_out("name", "multi_precision", "begin_num_update", "param_idx2name", "param_dict"),
        note="with centered=True momentum is 0.9 (gamma2); MXNet 2 has eps outside unless centered",
    ),
    Dialect(
        "paddle",
        "paddle.optimizer.RMSProp",
        "paddlepaddle 3.3.1, paddle/phi/kernels/impl/rmsprop_kernel_impl.h",
        "run",
        settings=_INSIDE | {"alpha": 0.95, "eps": 1e-6},
        arguments=same("momentum", "centered")
        | {
            "learning_rate": "lr",
            "rho": "alpha",
            "epsilon": "eps",
            "weight_decay": zero_for_none("weight_decay"),
        },
        state={
            "mean_square": "square_avg",
            "momentum": "momentum_buffer",
            "mean_grad": "grad_avg",
        },
        refused={"grad_clip": (None, CLIP)} | left_out("name"),
        note="its documentation says Nesterov; its momentum is heavy ball",
    ),
    Dialect(
        "river",
        "river.optim.RMSProp",
        "river 0.26.1, river/optim/rms_prop.py",
        "run",
        settings=_INSIDE | {"lr": 0.1},
        arguments=same("lr", "eps") | {"rho": "alpha"},
        state={"g2": "square_avg"},
        note="of a dict it steps, and decays, only the keys that are there",
    ),
)
