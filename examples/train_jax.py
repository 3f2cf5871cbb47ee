"""Train a small generator with JAX, and follow its Fréchet distance; in one process or in several.

    python train_jax.py run/                                                          # one process
    python train_jax.py run/ --process 0 --processes 2 --coordinator localhost:9911   # the same numbers in two:
    python train_jax.py run/ --process 1 --processes 2 --coordinator localhost:9911   # start both

The generator makes images of 8 x 8 pixels from noise, and is trained with the kernel distance to scikit-learn's
handwritten digits. After each epoch the processes share the drawing of the samples, and `fidfast.jax.all_reduce` joins
their moments. The features are the pixels; with a network, pass its output to `update` instead. Orbax saves weights
and moments after each epoch; the same command continues the run.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
from sklearn.datasets import load_digits

import fidfast
import fidfast.jax

NOISE, HIDDEN, PIXELS = 16, 128, 64
BATCH = 250


def initial_weights(key):
    shapes = {"w1": (NOISE, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, PIXELS), "b2": (PIXELS,)}
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.normal(each, shape) / shape[0] ** 0.5
        for each, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def generate(weights, key):
    """(BATCH, PIXELS) images with values from 0 to 1."""
    noise = jax.random.normal(key, (BATCH, NOISE))
    return jax.nn.sigmoid(jax.nn.relu(noise @ weights["w1"] + weights["b1"]) @ weights["w2"] + weights["b2"])


def kernel_distance(one, two):
    """Maximum mean discrepancy with a Gaussian kernel."""

    def mean_kernel(a, b):
        squares = jnp.sum((a[:, None] - b[None]) ** 2, axis=-1)
        return jnp.mean(jnp.exp(-squares / PIXELS * 4))

    return mean_kernel(one, one) + mean_kernel(two, two) - 2 * mean_kernel(one, two)


@jax.jit
def train_step(weights, images, key):
    gradient = jax.grad(lambda each: kernel_distance(generate(each, key), images))(weights)
    return jax.tree.map(lambda weight, slope: weight - 100 * slope, weights, gradient)


def moments_of_samples(weights, epoch, num_samples):
    """Moments of the samples, the same for any number of processes: each batch has its own key."""
    moments = fidfast.Moments(PIXELS)
    key = jax.random.fold_in(jax.random.key(1), epoch)
    for batch in range(jax.process_index(), -(-num_samples // BATCH), jax.process_count()):
        images = jax.jit(generate)(weights, jax.random.fold_in(key, batch))
        moments.update(images[: num_samples - batch * BATCH])  # a jax.Array, without a copy on CPUs
    fidfast.jax.all_reduce(moments)
    return moments


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the checkpoints")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--num-samples", type=int, default=10_000)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--coordinator", help="host:port of process 0")
    options = parser.parse_args()
    if options.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")  # for CPUs only
        jax.distributed.initialize(options.coordinator, options.processes, options.process)
    digits = (load_digits().data / 16).astype(np.float32)
    reference = fidfast.Moments.from_features(digits).stats()
    weights, rng = initial_weights(jax.random.key(0)), np.random.default_rng(0)
    state = {"weights": weights, "moments": fidfast.jax.to_array(fidfast.Moments(PIXELS))}
    with orbax.checkpoint.CheckpointManager(options.folder.absolute()) as checkpoints:
        first = checkpoints.latest_step()
        if first is not None:
            state = checkpoints.restore(first, args=orbax.checkpoint.args.StandardRestore(state))
        for epoch in range(options.epochs):
            batches = rng.permutation(len(digits))[: len(digits) // BATCH * BATCH].reshape(-1, BATCH)
            if first is not None and epoch <= first:
                moments = fidfast.jax.from_array(state["moments"])
                weights = state["weights"]
                continue
            for number, rows in enumerate(batches):
                weights = train_step(weights, digits[rows], jax.random.key(1000 * epoch + number))
            moments = moments_of_samples(weights, epoch, options.num_samples)
            state = {"weights": jax.tree.map(np.asarray, weights), "moments": fidfast.jax.to_array(moments)}
            checkpoints.save(epoch, args=orbax.checkpoint.args.StandardSave(state))
            if jax.process_index() == 0:
                print(f"epoch {epoch} distance {fidfast.fid(moments, reference):.8f}", flush=True)
    if jax.process_index() == 0:
        print(f"{moments.num_samples} samples: {fidfast.frechet_terms(moments.stats(), reference)}")


if __name__ == "__main__":
    main()
