"""Where each framework's optimizer is found, and what arguments it has."""

import importlib
import importlib.util
import inspect
import sys
import types


def find_torch():
    from torch.optim import RMSprop

    return RMSprop


def find_timm():
    try:
        from timm.optim.rmsprop_tf import RMSpropTF
    except RuntimeError:  # PyPI's torchvision beside a CPU-only torch: its file alone, then
        (folder,) = importlib.util.find_spec("timm").submodule_search_locations
        for name in ("timm", "timm.optim"):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [folder + name[4:].replace(".", "/")]
        from timm.optim.rmsprop_tf import RMSpropTF
    return RMSpropTF


def find_sb3():
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    return RMSpropTFLike


def find_bitsandbytes():
    from bitsandbytes.optim import RMSprop

    return RMSprop


def find_heavyball():
    from heavyball import RMSprop

    return RMSprop


def tf1_optimizer():
    import tensorflow as tf

    return tf.compat.v1.train.RMSPropOptimizer


def in_module(module, path):
    """What lies at a path in a module, when it is asked for."""

    def find():
        found = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        return found

    return find


CALLED = {  # where the arguments of each are to be read
    "torch": find_torch,
    "tf.compat.v1": tf1_optimizer,
    "keras": in_module("keras", "optimizers.RMSprop"),
    "tf_keras": in_module("tf_keras", "optimizers.RMSprop"),
    "tf_keras legacy": in_module("tf_keras", "optimizers.legacy.RMSprop"),
    "optax": in_module("optax", "rmsprop"),
    "jax": in_module("jax.example_libraries.optimizers", "rmsprop_momentum"),
    "timm": find_timm,
    "stable-baselines3": find_sb3,
    "sonnet": in_module("sonnet", "optimizers.RMSProp"),
    "mlx": in_module("mlx.optimizers", "RMSprop"),
    "river": in_module("river.optim", "RMSProp"),
    "bitsandbytes": find_bitsandbytes,
    "heavyball": find_heavyball,
    "chainer": in_module("chainer.optimizers", "RMSprop"),
    "chainer Graves": in_module("chainer.optimizers", "RMSpropGraves"),
    "mxnet": in_module("mxnet.optimizer", "RMSProp"),
    "paddle": in_module("paddle.optimizer", "RMSProp"),
}


def arguments_of(function):
    """The names of its arguments, but for what takes any, and the parameters themselves."""
    given = inspect.signature(function).parameters.values()
    plain = [p.name for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [name for name in plain if name not in ("params", "parameters")]
