"""A process that updates moments with its share of the rows at every line of standard input; for `test_torchrun.py`.

Arguments: number of rows of all processes, dim. With the environment of torchrun it shares the rows.
"""

import os
import sys

import numpy as np

#: Rows of one update, which are the same in all updates.
BATCH = 8192


def main() -> None:
    total, dim = map(int, sys.argv[1:])
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    import fidfast
    import fidfast.torch

    if size > 1:
        import torch.distributed as dist

        dist.init_process_group("gloo")
    rng = np.random.default_rng(0)
    batch = np.maximum(rng.standard_normal((BATCH, dim), dtype=np.float32) + rng.uniform(-1, 1, dim), 0)
    batch = batch.astype(np.float32)
    share = range(total * rank // size, total * (rank + 1) // size)
    for _ in sys.stdin:
        moments = fidfast.Moments(dim)
        row = share.start
        while row < share.stop:
            end = min(share.stop, (row // BATCH + 1) * BATCH)
            moments.update(batch[row % BATCH : row % BATCH + end - row])
            row = end
        if size > 1:
            fidfast.torch.all_reduce(moments)
        stats = moments.stats()
        print(stats.num_samples, float(np.trace(stats.sigma)), flush=True)


if __name__ == "__main__":
    main()
