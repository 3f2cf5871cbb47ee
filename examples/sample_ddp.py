"""Fréchet distance of the samples of a generator on several GPUs or processes, without writing image files.

    torchrun --nproc-per-node 2 examples/sample_ddp.py                  # CPUs (gloo) or GPUs (NCCL)
    torchrun --nproc-per-node 8 examples/sample_ddp.py --num-samples 50000 --save samples.npz
    python examples/sample_ddp.py                                       # the same samples in one process

The usual sampling script writes 50,000 PNG files, which another tool reads again. Here every process feeds its batches
to moments, and `all_reduce` adds those of all processes. The generator is a stand-in that takes seconds on a CPU: a
Gaussian with the mean and the principal components of handwritten digits. Replace `Generator` and `reference_images`
by your own; needs pip install 'fidfast[demo]'.
"""

import argparse
import os
from dataclasses import replace

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits

import fidfast
import fidfast.torch


class Generator(torch.nn.Module):
    """Gaussian in the space of the principal components of digits, 8 x 8 pixels."""

    def __init__(self, components):
        super().__init__()
        pixels = torch.tensor(load_digits().data / 16, dtype=torch.float32)
        _, scales, directions = torch.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
        self.register_buffer("mean", pixels.mean(0))
        self.register_buffer("factor", scales[:components, None] * directions[:components] / len(pixels) ** 0.5)

    def forward(self, noise):
        """Images (n, 1, 8, 8) from 0 to 1."""
        return (self.mean + noise @ self.factor).clamp(0, 1).unflatten(1, (1, 8, 8))


def reference_images(number):
    """(n, 8, 8) uint8 images."""
    return (load_digits().images[:number] * 255 / 16).astype(np.uint8)


def start():
    """Join the other processes; return the rank, the number of processes, and the device of this process."""
    on_gpu = torch.cuda.is_available()
    if "RANK" not in os.environ:  # not started by torchrun
        return 0, 1, torch.device("cuda" if on_gpu else "cpu")
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:  # torchrun sets one thread for each process
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    return dist.get_rank(), dist.get_world_size(), torch.device("cuda" if on_gpu else "cpu")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num-samples", type=int, default=1000, help="of all processes together")
    parser.add_argument("--num-reference", type=int, default=1000, help="digits, at most 1797")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--components", type=int, default=20, help="of the generator, at most 64")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the statistics of the samples")
    options = parser.parse_args()
    rank, size, device = start()

    extractor = replace(fidfast.torch.load_extractor("efficientnet-lite0"), input_size=(64, 64))
    # The processes share the images of the reference, and each gets the statistics of all.
    reference = fidfast.torch.stats_of_images(
        reference_images(options.num_reference), extractor, device=device, distributed=size > 1, progress="reference"
    )
    generator = Generator(options.components).to(device).eval()
    metric = fidfast.torch.FrechetDistance(extractor, reference).to(device)
    starts = range(0, options.num_samples, options.batch_size)
    for batch in range(rank, len(starts), size):
        # Every batch has its own seed, so that the samples do not depend on the number of processes.
        random = torch.Generator(device).manual_seed(options.seed + batch)
        n = min(options.batch_size, options.num_samples - starts[batch])  # the last one may be smaller
        with torch.no_grad():
            metric.update(generator(torch.randn(n, options.components, generator=random, device=device)))

    moments = metric.moments
    if size > 1:
        fidfast.torch.all_reduce(moments)
    samples = moments.stats()
    distance = fidfast.frechet_distance(samples, reference)  # the same in every process, so that none waits
    if rank == 0:
        if options.save is not None:
            samples.save(options.save)
        print(f"{samples.num_samples} samples, {size} processes: Fréchet distance {distance:.8g}")
    if size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"sample_ddp.py: {error}") from None
