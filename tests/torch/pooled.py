"""A small extractor for the tests of the metric and of its samples."""

import torch


class Pooled(torch.nn.Module):
    """A small network with random weights."""

    name = "pooled"
    input_size = 8
    activation = staticmethod(torch.relu)

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 5, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(3))

    def forward(self, images):
        return self.activation(self.layer(images)).mean(dim=(2, 3))
