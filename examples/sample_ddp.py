"""Fréchet distance of the samples of a generator on several GPUs or processes, without writing image files.

    torchrun --nproc-per-node 2 examples/sample_ddp.py                  # CPUs (gloo) or GPUs (NCCL)
    torchrun --nproc-per-node 8 examples/sample_ddp.py --num-samples 50000 --save samples.npz
    python examples/sample_ddp.py                                       # the same samples in one process

The usual sampling script writes 50,000 PNG files, which another tool reads again. Here every process feeds its batches
to moments, and `all_reduce` adds those of all processes. The generator is a stand-in that runs on CPUs, and draws discs
with blurred edges. Replace `Generator` and `reference_images` by your own; needs pip install 'fidfast[demo]'.
"""

import argparse
import os
from dataclasses import replace

import torch
import torch.distributed as dist

import fidfast
import fidfast.torch


class Generator(torch.nn.Module):
    """Draws a disc from each row of noise; `edge` is the width of its edge in pixels."""

    def __init__(self, edge):
        super().__init__()
        self.edge = edge
        self.register_buffer("grid", torch.arange(32.0))

    def forward(self, noise):
        """Images (n, 3, 32, 32) from 0 to 1, of noise (n, 6)."""
        x, y, radius, *colour = torch.sigmoid(noise)[..., None, None].unbind(1)
        distance = torch.hypot(self.grid - 8 - 16 * x, self.grid[:, None] - 8 - 16 * y)
        covered = torch.clamp((4 + 8 * radius - distance) / self.edge, 0, 1)
        return covered[:, None] * torch.stack(colour, dim=1)


def reference_images(number):
    """(n, 3, 32, 32) images of discs with sharp edges."""
    return Generator(edge=1.0)(torch.randn(number, 6, generator=torch.Generator().manual_seed(2**31)))


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
    parser.add_argument("--num-samples", type=int, default=500, help="of all processes together")
    parser.add_argument("--num-reference", type=int, default=500, help="discs")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument(
        "--edge", type=float, default=6.0, help="of the discs of the generator, in pixels; reference: 1"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the statistics of the samples")
    options = parser.parse_args()
    rank, size, device = start()

    extractor = replace(fidfast.torch.load_extractor("efficientnet-lite0"), input_size=(32, 32))
    extractor = extractor.prepared(compile=False, device=device)
    # The processes share the images of the reference, and each gets the statistics of all.
    reference = fidfast.torch.stats_of_images(
        reference_images(options.num_reference), extractor, device=device, distributed=size > 1, progress="reference"
    )
    generator = Generator(options.edge).to(device).eval()
    metric = fidfast.torch.FrechetDistance(extractor, reference).to(device)
    starts = range(0, options.num_samples, options.batch_size)
    for batch in range(rank, len(starts), size):
        # Every batch has its own seed, so that the samples do not depend on the number of processes.
        random = torch.Generator(device).manual_seed(options.seed + batch)
        n = min(options.batch_size, options.num_samples - starts[batch])  # the last one may be smaller
        with torch.no_grad():
            metric.update(generator(torch.randn(n, 6, generator=random, device=device)))

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
