"""Extractors of two networks, for collections of several, and the comparison of collections."""

from dataclasses import replace

import numpy as np
import torch
from photographs import crops

import fidfast.torch as ft
from fidfast import InceptionScore
from fidfast.torch._images.checks import check_images_of_several
from fidfast.torch._images.collection import Need, collect_of_source

IMAGES = [np.asarray(image) for image in crops(3, [(24, 24), (20, 24), (24, 24), (31, 18)] * 8)]


class Extremes(torch.nn.Module):
    """A network with two outputs. They do not depend on the batch, and its calls are counted."""

    def __init__(self):
        super().__init__()
        self.calls, self.limit, self.broken = [], 10**9, None

    def forward(self, images):
        if sum(self.calls) >= self.limit:
            raise KeyboardInterrupt
        self.calls.append(len(images))
        cells = [torch.nn.functional.adaptive_max_pool2d(sign * images.float(), 2).flatten(1) for sign in (1, -1)]
        if self.broken is not None:
            cells[1][(images.float() == self.broken).all(dim=(1, 2, 3))] = torch.nan
        return {"highest": cells[0], "lowest": cells[1]}


class Networks:
    """Extractors of two networks; the first has two outputs, and two input sizes."""

    def __init__(self):
        self.first, self.second = Extremes(), Extremes()
        # A function is not copied, so that its calls can be counted.
        sized = ft.Extractor(self.first.forward, "highest", input_size=(16, 16), output="highest", num_features=12)
        self.extractors = [
            sized,
            replace(sized, name="lowest", output="lowest"),
            replace(sized, name="small", input_size=(8, 9), resize="tf1-bilinear"),
            ft.Extractor(self.second.forward, "unresized", output="lowest", takes_uint8=True),
        ]
        self.extractors = [replace(one, reproducible=True) for one in self.extractors]

    def needs(self):
        highest, lowest, small, unresized = self.extractors
        return [
            Need(highest, moments=True, rows=True),
            Need(lowest, score=InceptionScore(12, splits=3)),
            Need(small, moments=True),
            Need(unresized, moments=True, rows=True, score=InceptionScore(12)),
        ]


def collect(source, needs, **keywords):
    options = ft.ImageOptions(**{"num_workers": 0, "batch_size": 5, **keywords})
    extractors = [need.extractor for need in needs]
    opened, extractors, options = check_images_of_several(source, extractors, options=options)
    needs = [replace(need, extractor=one) for need, one in zip(needs, extractors, strict=True)]
    found, checkpoint = collect_of_source(opened, needs, options)
    if checkpoint is not None:
        checkpoint.remove()
    return found


def assert_equal(found, expected):
    for field in ("skipped", "names", "indices"):
        assert getattr(found, field) == getattr(expected, field), field
    for one, another in zip(found.parts, expected.parts, strict=True):
        assert_equal_parts(one, another)


def assert_equal_parts(one, another):
    assert (one.moments, one.score, one.extractor) == (another.moments, another.score, another.extractor)
    np.testing.assert_array_equal(one.rows, another.rows)
