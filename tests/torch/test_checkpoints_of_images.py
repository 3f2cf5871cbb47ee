"""A checkpoint is continued by the same run only: the same images, and an extractor that computes the same."""

import numpy as np
import pytest
import torch
from photographs import crops

import fidfast.torch as ft
from fidfast import Moments
from fidfast.torch._images import extraction_pass

POOLS = (torch.nn.AdaptiveAvgPool2d, torch.nn.AdaptiveMaxPool2d)


@pytest.mark.parametrize("change", ["code", "closure", "structure", "images"])
def test_checkpoint_of_another_run_is_refused(monkeypatch, tmp_path, change):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)

    def scaled(factor):
        return lambda batch: batch.mean(dim=(2, 3)) * factor

    pools = [torch.nn.Sequential(pool(1), torch.nn.Flatten()) for pool in POOLS]
    networks = {
        "code": (lambda batch: batch.mean(dim=(2, 3)), lambda batch: batch.amax(dim=(2, 3))),
        "closure": (scaled(1), scaled(2)),
        "structure": pools,
        "images": (pools[0], pools[0]),
    }[change]
    arrays = [np.asarray(image) for image in crops(0, [(24, 24)] * 20)]
    others = [255 - array for array in arrays] if change == "images" else arrays
    checkpoint = tmp_path / "run.npz"

    with monkeypatch.context() as context:
        update = Moments.update
        calls = []

        def interrupted_update(self, rows, **options):
            if calls:
                raise KeyboardInterrupt
            calls.append(update(self, rows, **options))

        context.setattr(Moments, "update", interrupted_update)
        with pytest.raises(KeyboardInterrupt):
            ft.moments_of_images(arrays, networks[0], checkpoint=checkpoint, batch_size=8)
    assert checkpoint.exists()
    with pytest.raises(ValueError, match="belongs to another run"):
        ft.moments_of_images(others, networks[1], checkpoint=checkpoint, batch_size=8)
    ft.moments_of_images(arrays, networks[0], checkpoint=checkpoint, batch_size=8)
