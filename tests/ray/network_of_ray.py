"""A network of the tests, in a module that Ray's workers can import."""

import torch


class Pixels(torch.nn.Module):
    """Seeded random combinations of all pixels."""

    num_features = 5
    input_size = (6, 6)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.nn.Parameter(torch.randn(3 * 6 * 6, 5, generator=generator) / 10)

    def forward(self, images):
        return images.float().flatten(1) @ self.weights
