"""Small images and data sets for the tests of image sources."""

import io

import numpy as np
import torch
from PIL import Image

#: (12, 10, 9, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 10, 9, 3), dtype=np.uint8)
#: (12, 3, 10, 9)
TENSOR = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous()
PICTURES = [Image.fromarray(image) for image in IMAGES]


def channel_means(images):
    """An extractor of three features."""
    return images.mean(dim=(2, 3))


def not_called(images):
    raise AssertionError("the network ran")


def encoded(image):
    """The bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


class Items(torch.utils.data.Dataset):
    """A Dataset of given items; an item that is an exception is raised."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class Columns:
    """The part of a Hugging Face dataset that is used: columns, and rows as dictionaries."""

    def __init__(self, **columns):
        self.columns = columns
        self.column_names = list(columns)
        self.features = dict.fromkeys(columns)
        self.shape = (len(self), len(columns))

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index):
        if isinstance(index, str):
            return self.columns[index]
        return {name: column[index] for name, column in self.columns.items()}
