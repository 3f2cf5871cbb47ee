"""The training loop, the losses and the measurement of the image experiments."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fidfast.torch
from benchmarks.gans import classifier, training
from benchmarks.gans.measurement import Measurement, to_pixels
from benchmarks.gans.networks import ImageDiscriminator, ImageGenerator, gradient_norms, interpolate
from benchmarks.gans.work import Part

SIZE, LATENT = 8, 4


def make_gan(seed: int, *, critic_steps: int = 1, r1: float = 0.0) -> training.Gan:
    torch.manual_seed(seed)
    return training.Gan(
        ImageGenerator(SIZE, 2, LATENT),
        ImageDiscriminator(SIZE, 2, batch_norm=not r1),
        lambda n: torch.rand(n, 1, SIZE, SIZE),
        training.NonSaturating(r1),
        rates=(1e-3, 2e-3),
        betas=(0.5, 0.9),
        critic_steps=critic_steps,
        batch_size=4,
        latent=LATENT,
    )


def part(path: Path | None = None) -> Part:
    return Part(path, lambda steps, resumed: None)


def mean_of_samples(gan: training.Gan) -> dict[str, float]:
    return {"value": gan.sample(5).mean().item()}


def without_times(curve: list[dict]) -> list[dict]:
    return [{key: value for key, value in point.items() if "seconds" not in key} for point in curve]


class TestTrain:
    def test_an_interrupted_run_continues_identically(self, tmp_path):
        options = {"updates": 8, "measure_every": 2}
        expected = training.train(part(), make_gan(0), measure=mean_of_samples, **options)
        calls = []

        def interrupted(gan):
            calls.append(None)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return mean_of_samples(gan)

        path = tmp_path / "run.state"
        with pytest.raises(KeyboardInterrupt):
            training.train(part(path), make_gan(0), measure=interrupted, **options)
        # Another seed: all state is in the file.
        found = training.train(part(path), make_gan(1), measure=mean_of_samples, **options)
        assert without_times(found) == without_times(expected)
        assert [point["update"] for point in found] == [0, 2, 4, 6, 8]

    def test_measurements_do_not_change_the_training(self):
        def draws(gan):
            torch.manual_seed(5)
            return {"value": gan.sample(50).mean().item()}

        curves = [
            training.train(part(), make_gan(0), updates=6, measure_every=every, measure=measure)
            for every, measure in ((2, draws), (6, lambda gan: {"value": 0.0}))
        ]
        often, rare = ([point["d_loss"] for point in curve[1:]] for curve in curves)
        assert sum(often) / 3 == pytest.approx(rare[0], rel=1e-6)

    def test_counts_the_updates(self):
        steps = []
        counted = Part(None, lambda number, resumed: steps.append(number))
        training.train(counted, make_gan(0), updates=4, measure_every=2, measure=mean_of_samples)
        assert sum(steps) == 4

    def test_a_diverging_run_is_an_error(self):
        gan = make_gan(0)
        gan.generator[0].weight.data[0, 0] = float("nan")
        with pytest.raises(FloatingPointError, match="d_loss is nan: the training diverged"):
            training.train(part(), gan, updates=2, measure_every=1, measure=lambda gan: {"value": 0.0})

    def test_measurements_are_at_multiples(self):
        with pytest.raises(ValueError, match="updates must be a multiple of measure_every, got 5 and 2"):
            training.train(part(), make_gan(0), updates=5, measure_every=2, measure=mean_of_samples)


class TestGan:
    def test_updates_the_discriminator_several_times(self):
        drawn = []
        gan = make_gan(0, critic_steps=3)
        gan._next_real = lambda n: drawn.append(n) or torch.rand(n, 1, SIZE, SIZE)
        gan.update()
        assert drawn == [4, 4, 4]

    def test_the_networks_have_their_rates(self):
        # The first step of Adam changes each weight by the rate, up to its epsilon.
        gan = make_gan(0)
        networks = (gan.discriminator, gan.generator)
        before = [[value.detach().clone() for value in network.parameters()] for network in networks]
        gan.update()
        for network, values, rate in zip(networks, before, (1e-3, 2e-3), strict=True):
            changes = [(new - old).abs().max().item() for new, old in zip(network.parameters(), values, strict=True)]
            assert max(changes) == pytest.approx(rate, rel=1e-3)

    def test_sampling_leaves_the_mode(self):
        gan = make_gan(0)
        gan.sample(2)
        assert gan.generator.training


class Linear(nn.Module):
    """``a . x + b``, whose gradient in x is a."""

    def __init__(self, a: torch.Tensor, b: float) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a), b

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return samples.flatten(1) @ self.a + self.b


class TestLosses:
    @pytest.fixture
    def network(self) -> Linear:
        return Linear(torch.tensor([3.0, -4.0]), 0.5)

    @pytest.fixture
    def samples(self) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(6, 1, 1, 2, generator=generator), torch.randn(6, 1, 1, 2, generator=generator)

    def test_gradient_norms(self, network, samples):
        torch.testing.assert_close(gradient_norms(network, samples[0]), torch.full((6,), 5.0))

    @pytest.mark.parametrize("r1", [0.0, 10.0])
    def test_non_saturating(self, network, samples, r1):
        real, fake = samples
        losses = training.NonSaturating(r1)
        probabilities = [torch.sigmoid(network(each)) for each in samples]
        expected = -probabilities[0].log().mean() - (1 - probabilities[1]).log().mean() + r1 * 25.0
        torch.testing.assert_close(losses.discriminator(network, real, fake), expected)
        torch.testing.assert_close(losses.generator(network(fake)), -probabilities[1].log().mean())

    def test_r1_has_a_gradient_in_the_weights(self, network, samples):
        # d |a|^2 / d a = 2 a
        losses = [training.NonSaturating(r1).discriminator(network, *samples) for r1 in (0.0, 10.0)]
        plain, penalised = (torch.autograd.grad(loss, network.a)[0] for loss in losses)
        torch.testing.assert_close(penalised - plain, 20.0 * network.a)

    def test_wasserstein(self, network, samples):
        real, fake = samples
        expected = network(fake).mean() - network(real).mean() + 10.0 * (5.0 - 1.0) ** 2
        losses = training.Wasserstein()
        torch.testing.assert_close(losses.discriminator(network, real, fake), expected)
        torch.testing.assert_close(losses.generator(network(fake)), -network(fake).mean())

    def test_interpolates_each_pair(self):
        real, fake = torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2)
        weights = interpolate(real, fake).flatten(1)
        assert torch.equal(weights, weights[:, :1].expand(-1, 4))
        assert weights.min() >= 0
        assert weights.max() <= 1
        assert len(weights[:, 0].unique()) > 40


class TestMeasurement:
    def test_is_the_distance_of_the_same_images(self):
        trained = classifier.train(part(), dataset="digits", num_features=16, epochs=1)
        extractor = classifier.extractor("digits", trained["weights"])
        reference = classifier.reference("digits", trained)
        gan = SimpleNamespace(sample=lambda n: 2 * torch.rand(n, 1, 8, 8) - 1)
        measure = Measurement(extractor, reference, num_samples=600)
        found = measure(gan)
        assert measure(gan) == found
        images = fidfast.torch.features_of_samples(lambda n: to_pixels(gan.sample(n)), 600, extractor, batch_size=250)
        assert found["value"] == pytest.approx(fidfast.fid(images, reference), rel=1e-5)
        assert 0 < found["stderr"] < found["value"]
        assert trained["accuracy"] > 0.1

    def test_pixels(self):
        assert to_pixels(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, 128, 255]
