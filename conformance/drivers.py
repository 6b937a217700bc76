"""How each framework is driven: `python -m conformance.drivers NAME FILE`, in its environment.

A driver takes the framework's own arguments and a run (a problem in a precision), and yields the
parameters after each step.
"""

import importlib.metadata
import inspect
import json
import os
import sys
import warnings

import numpy as np

from conformance.cases import FRAMEWORKS
from conformance.problem import STARTS, flat
from conformance.signatures import (
    CALLED,
    arguments_of,
    find_bitsandbytes,
    find_heavyball,
    find_sb3,
    find_timm,
    find_torch,
)

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "torch", "TORCHDYNAMO_DISABLE": "1"}
os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "CUDA_VISIBLE_DEVICES": ""}


def rate_of(function, arguments, name):
    """The learning rate that is given, or the default."""
    return arguments.get(name, inspect.signature(function).parameters[name].default)


def in_torch(find):
    """A driver of an optimizer for torch."""

    def drive(arguments, given):
        import torch

        kind = find()
        params = [torch.nn.Parameter(torch.from_numpy(p)) for p in given.starts()]
        opt = kind(params, **arguments)
        lr = rate_of(kind, arguments, "lr")
        for _, factor, grads in given.steps():
            for p, g in zip(params, grads, strict=True):
                p.grad = torch.from_numpy(g)
            opt.param_groups[0]["lr"] = lr * factor
            opt.step()
            yield flat([p.detach() for p in params])

    return drive


def tf1(arguments, given):
    import tensorflow as tf

    lr = arguments["learning_rate"]
    params = [tf.Variable(p) for p in given.starts()]
    now = tf.Variable(np.asarray(lr, given.dtype))
    exact = {
        name: tf.constant(value, given.dtype) if isinstance(value, float) else value
        for name, value in arguments.items()
    }
    opt = tf.compat.v1.train.RMSPropOptimizer(**exact | {"learning_rate": lambda: now})
    for _, factor, grads in given.steps():
        now.assign(lr * factor)
        opt.apply_gradients([(tf.constant(g), p) for g, p in zip(grads, params, strict=True)])
        yield flat(params)


def keras(arguments, given):
    import keras
    import torch

    keras.config.set_floatx(given.dtype)
    params = [keras.Variable(p, dtype=given.dtype) for p in given.starts()]
    opt = keras.optimizers.RMSprop(**arguments)
    lr = rate_of(keras.optimizers.RMSprop, arguments, "learning_rate")
    for _, factor, grads in given.steps():
        opt.learning_rate = lr * factor
        opt.apply([torch.from_numpy(g) for g in grads], params)
        yield flat([p.value.detach() for p in params])


def tf_keras(find):
    def drive(arguments, given):
        import tensorflow as tf
        import tf_keras

        tf_keras.backend.set_floatx(given.dtype)
        kind = find(tf_keras)
        params = [tf.Variable(p) for p in given.starts()]
        opt = kind(**arguments)
        lr = rate_of(kind, arguments, "learning_rate")
        for _, factor, grads in given.steps():
            opt.learning_rate = lr * factor
            opt.apply_gradients([(tf.constant(g), p) for g, p in zip(grads, params, strict=True)])
            yield flat(params)

    return drive


def sonnet(arguments, given):
    import sonnet
    import tensorflow as tf

    params = [tf.Variable(p) for p in given.starts()]
    opt = sonnet.optimizers.RMSProp(**arguments)
    for _, factor, grads in given.steps():
        opt.learning_rate = arguments["learning_rate"] * factor
        opt.apply([tf.constant(g) for g in grads], params)
        yield flat(params)


def optax(arguments, given):
    import jax
    import optax

    rates = np.array(
        [arguments["learning_rate"] * factor for _, factor, _ in given.steps()], given.dtype
    )
    schedule = {"learning_rate": lambda count: jax.numpy.asarray(rates)[count]}
    opt = optax.rmsprop(**arguments | schedule)
    params = [jax.numpy.asarray(p) for p in given.starts()]
    state = opt.init(params)

    @jax.jit
    def step(grads, state, params):
        updates, state = opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for _, _, grads in given.steps():
        params, state = step(grads, state, params)
        yield flat(params)


def jax(arguments, given):
    from jax.example_libraries import optimizers

    arguments = {name: value for name, value in arguments.items() if value is not None}
    kind = optimizers.rmsprop_momentum if "momentum" in arguments else optimizers.rmsprop
    lr = arguments.pop("step_size")
    rates = np.array([lr * factor for _, factor, _ in given.steps()], given.dtype)
    make, update, params_of = kind(lambda i: rates[i], **arguments)
    state = make(given.starts())
    for t, _, grads in given.steps():
        state = update(t - 1, grads, state)
        yield flat(params_of(state))


def mlx(arguments, given):
    import mlx.core as mx
    from mlx.optimizers import RMSprop

    mx.set_default_device(mx.cpu)
    kind = getattr(mx, given.dtype)
    params = {str(i): mx.array(p, dtype=kind) for i, p in enumerate(given.starts())}
    opt = RMSprop(**arguments)
    for _, factor, grads in given.steps():
        opt.learning_rate = arguments["learning_rate"] * factor
        named = {str(i): mx.array(g, dtype=kind) for i, g in enumerate(grads)}
        params = opt.apply_gradients(named, params)
        yield flat(params.values())


def river(arguments, given):
    from river.optim import RMSProp
    from river.optim.schedulers import Constant

    opt, lr = RMSProp(**arguments), rate_of(RMSProp, arguments, "lr")
    weights = {i: float(x) for i, x in enumerate(flat(STARTS))}
    for _, factor, grads in given.steps():
        opt.lr = Constant(lr * factor)
        weights = opt.step(weights, {i: float(x) for i, x in enumerate(flat(grads))})
        yield np.array([weights[i] for i in range(len(weights))])


def chainer(name):
    def drive(arguments, given):
        import chainer

        link = chainer.Link()
        with link.init_scope():
            link.first, link.second = (chainer.Parameter(p) for p in given.starts())
        params = (link.first, link.second)
        opt = getattr(chainer.optimizers, name)(**arguments)
        opt.setup(link)
        lr = opt.hyperparam.lr
        for _, factor, grads in given.steps():
            for p, g in zip(params, grads, strict=True):
                p.grad = g
            opt.hyperparam.lr = lr * factor
            opt.update()
            yield flat([p.array for p in params])

    return drive


def mxnet(arguments, given):
    import mxnet

    opt = mxnet.optimizer.RMSProp(**arguments)
    lr = rate_of(mxnet.optimizer.RMSProp, arguments, "learning_rate")
    params = [mxnet.nd.array(p, dtype=given.dtype) for p in given.starts()]
    states = [[s.astype(given.dtype) for s in opt.create_state(i, p)] for i, p in enumerate(params)]
    for _, factor, grads in given.steps():
        opt.set_learning_rate(lr * factor)
        for i, (p, g, state) in enumerate(zip(params, grads, states, strict=True)):
            opt.update(i, p, mxnet.nd.array(g, dtype=given.dtype), state)
        yield flat([p.asnumpy() for p in params])


def paddle(arguments, given):
    import paddle

    params = [paddle.create_parameter(list(p.shape), given.dtype) for p in given.starts()]
    for p, start in zip(params, given.starts(), strict=True):
        p.set_value(start)
    opt = paddle.optimizer.RMSProp(parameters=params, **arguments)
    for _, factor, grads in given.steps():
        opt.set_lr(arguments["learning_rate"] * factor)
        sum((p * paddle.to_tensor(g)).sum() for p, g in zip(params, grads, strict=True)).backward()
        opt.step()
        opt.clear_grad()
        yield flat([p.numpy() for p in params])


DRIVERS = {
    "torch": in_torch(find_torch),
    "tf.compat.v1": tf1,
    "keras": keras,
    "tf_keras": tf_keras(lambda package: package.optimizers.RMSprop),
    "tf_keras legacy": tf_keras(lambda package: package.optimizers.legacy.RMSprop),
    "optax": optax,
    "jax": jax,
    "timm": in_torch(find_timm),
    "stable-baselines3": in_torch(find_sb3),
    "sonnet": sonnet,
    "mlx": mlx,
    "river": river,
    "bitsandbytes": in_torch(find_bitsandbytes),
    "heavyball": in_torch(find_heavyball),
    "chainer": chainer("RMSprop"),
    "chainer Graves": chainer("RMSpropGraves"),
    "mxnet": mxnet,
    "paddle": paddle,
}


def main(name, file):
    warnings.simplefilter("ignore")
    (framework,) = (one for one in FRAMEWORKS if one.name == name)
    drive = DRIVERS[name]
    paths = {
        f"{run.key} {i}": np.array([*drive(dict(case), run)])
        for run, cases in framework.runs()
        for i, case in enumerate(cases)
    }
    np.savez(file, **paths)
    version = importlib.metadata.version(framework.package)
    print(json.dumps({"version": version, "arguments": arguments_of(CALLED[name]())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
