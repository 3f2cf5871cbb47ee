"""The loss with running statistics: a queue, and an average with decaying weights."""

import copy
import io

import numpy as np
import pytest
import reference
import torch
from losses import DIM, EPS, REFERENCES, RUNNING_STATS, batch_of, gradient_of, reference_rows, running_stats_of

import fidfast
import fidfast.torch as ft
import fidfast.torch._training.loss


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize("running", RUNNING_STATS)
@pytest.mark.parametrize("sizes", [[5], [4, 3], [1, 6, 2, 5], [5, 3, 6, 6, 6, 1, 4]], ids=str)
def test_value_and_gradient(rng, kind, running, sizes):
    fixed = reference_rows(kind, rng)
    mu1, sigma1 = reference.moments(fixed)
    batches = [batch_of(size, rng) for size in sizes]
    running_stats, weights_of = running_stats_of(running)
    for batch in batches[:-1]:
        running_stats.push(torch.from_numpy(batch))
    loss = ft.FrechetLoss(fixed, running_stats=running_stats).eval()
    weights = weights_of(sizes).astype(float)

    def expected(batch):
        rows = np.concatenate([*batches[:-1], batch])
        return reference.weighted_distance(rows[weights > 0], weights[weights > 0], mu1, sigma1)

    value, slope = expected(batches[-1]), reference.differences(expected, batches[-1])
    scale = np.trace(sigma1) + value
    # Roots that are left out, or are rounding errors, are at most sqrt(4 eps) times the largest.
    assert loss(torch.from_numpy(batches[-1])).item() == pytest.approx(value, abs=DIM * np.sqrt(4 * EPS) * scale)
    got = gradient_of(loss, batches[-1])
    np.testing.assert_allclose(got, slope, rtol=0, atol=2e-6 * np.abs(slope).max())
    assert torch.autograd.gradcheck(loss, torch.from_numpy(batches[-1]).requires_grad_())


@pytest.mark.parametrize("running", [None, *RUNNING_STATS])
@pytest.mark.parametrize("n", [2, 6])
@pytest.mark.parametrize("max_svd_rank", [1024, 0])
def test_gradient_of_a_collapsed_generator(rng, monkeypatch, running, n, max_svd_rank):
    """Equal rows differ by rounding only, and the gradient does not amplify it."""
    monkeypatch.setattr(fidfast.torch._training.loss, "_MAX_SVD_RANK", max_svd_rank)
    fixed = reference_rows("full", rng)
    running_stats, weights_of = (None, np.ones) if running is None else running_stats_of(running)
    collapsed = torch.from_numpy(batch_of(1, rng).repeat(n, axis=0) / 3)
    if running_stats is not None:
        running_stats.push(collapsed)
    total = n if running is None else weights_of([n, n]).sum()
    got = gradient_of(ft.FrechetLoss(fixed, running_stats=running_stats), collapsed)
    expected = 2 / total * (collapsed.numpy() - fixed.mean(axis=0))
    # The mean of equal rows has a relative error of a few eps.
    np.testing.assert_allclose(got, expected, rtol=0, atol=64 * EPS * collapsed.abs().max())


@pytest.mark.parametrize("constant", [np.zeros((10, DIM)), np.zeros((3, DIM))], ids=["10 rows", "3 rows"])
@pytest.mark.parametrize("running", [None, "long queue", "decay 0.8"])
def test_reference_without_variance(rng, constant, running):
    rows = batch_of(5, rng)
    running_stats = None if running is None else running_stats_of(running)[0]
    if running_stats is not None:
        running_stats.push(torch.from_numpy(batch_of(9, rng)))
    loss = ft.FrechetLoss(constant, running_stats=running_stats).eval()
    assert torch.autograd.gradcheck(loss, torch.from_numpy(rows).requires_grad_())
    if running is None:
        expected = np.sum(rows.mean(0) ** 2) + np.trace(np.cov(rows.T))
        assert loss(torch.from_numpy(rows)).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("running", ["short queue", "long queue", "decay 0.8"])
def test_batches_are_added_in_training_mode_only(rng, running):
    fixed = reference_rows("full", rng)
    loss = ft.FrechetLoss(fixed, running_stats=running_stats_of(running)[0])
    one, two = (torch.from_numpy(batch_of(n, rng)) for n in (4, 2))
    loss.eval()(one)
    assert loss.running_stats.num_samples == 0
    first = loss.train()(one)  # of the batch alone, since the running statistics are empty
    assert first.item() == ft.frechet_loss(one, fixed).item()
    assert loss.running_stats.num_samples == 4
    # frechet_loss follows the mode of the running statistics.
    running_stats = running_stats_of(running)[0]
    running_stats.push(one)
    assert ft.frechet_loss(two, fixed, running_stats=running_stats.eval()) == loss(two)
    assert (running_stats.num_samples, loss.running_stats.num_samples) == (4, 6)
    assert not any(buffer.requires_grad for buffer in loss.buffers())
    loss.running_stats.reset()
    assert loss.running_stats.num_samples == 0
    assert loss(one).item() == first.item()


@pytest.mark.parametrize("size", [5, 40])
def test_queue_holds_the_last_rows(rng, size):
    """After a hundred merges and unmerges, far from the origin."""
    stream = batch_of(400, rng) + 1e3
    queue = ft.FeatureQueue(DIM, size, dtype=torch.float64)
    fixed, last = reference_rows("full", rng), []
    first = 0
    for n in rng.integers(1, 6, size=100):
        batch = stream[first : first + n]
        first += n
        if first > len(stream):
            break
        last = [*last, *batch][-size:]
        if len(last) >= 2:
            value = ft.frechet_loss(torch.from_numpy(batch), fixed, running_stats=queue)
            assert value.item() == pytest.approx(fidfast.fid(np.array(last), fixed), rel=1e-11)
            assert queue.num_samples == len(last)
        else:
            queue.push(torch.from_numpy(batch))
    assert queue.num_samples == size


@pytest.mark.parametrize("running", ["short queue", "long queue", "decay 0.8"])
def test_checkpoint_continues_with_the_same_digits(rng, running):
    fixed, batches = reference_rows("full", rng), [torch.from_numpy(batch_of(5, rng)) for _ in range(6)]
    one, two = (ft.FrechetLoss(fixed, running_stats=running_stats_of(running)[0]) for _ in range(2))
    for batch in batches[:4]:
        one(batch)
    assert all(key.startswith("running_stats.") for key in one.state_dict())  # and not the reference
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    two.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    three = copy.deepcopy(one).half()  # which does not change the dtypes
    for batch in batches[4:]:
        assert one(batch).item() == two(batch).item() == three(batch).item()
    assert two.running_stats.num_samples == one.running_stats.num_samples
    one.to("meta")
    assert {buffer.device.type for buffer in one.buffers()} == {"meta"}


@pytest.mark.parametrize("running", RUNNING_STATS)
def test_copied_buffers_are_complete_statistics(rng, running):
    """As in ``DistributedDataParallel``, which copies the buffers of the first process before every forward."""
    first, second = (running_stats_of(running)[0] for _ in range(2))
    for n in (3, 5, 4):
        first.push(torch.from_numpy(batch_of(n, rng)))
        second.push(torch.from_numpy(batch_of(n + 1, rng)))
        for mine, theirs in zip(second.buffers(), first.buffers(), strict=True):
            mine.copy_(theirs)
    assert second.num_samples == first.num_samples
    batch, fixed = torch.from_numpy(batch_of(4, rng)), reference_rows("full", rng)
    losses = [ft.frechet_loss(batch, fixed, running_stats=running_stats) for running_stats in (first, second)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("running", RUNNING_STATS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rejected_batch_leaves_the_state_unchanged(rng, running, value):
    loss = ft.FrechetLoss(reference_rows("full", rng), running_stats=running_stats_of(running)[0])
    loss(torch.from_numpy(batch_of(5, rng)))
    before = copy.deepcopy(loss.state_dict())
    poisoned = torch.from_numpy(batch_of(4, rng))
    poisoned[2, 3] = poisoned[3, 0] = value
    with pytest.raises(ValueError, match="features hold NaN or infinity; the first such row is 2"):
        loss(poisoned)
    with pytest.raises(ValueError, match=r"features have 6 columns, but the (queue|moving average) has dim 7"):
        loss.running_stats.push(poisoned[:, 1:])
    after = loss.state_dict()
    for key, value in before.items():
        assert torch.equal(after[key], value) if isinstance(value, torch.Tensor) else after[key] == value


def test_invalid_running_stats(rng):
    fixed, rows = reference_rows("full", rng), torch.from_numpy(batch_of(5, rng))
    with pytest.raises(TypeError, match="running_stats must be a FeatureQueue, MovingMoments or None, got Moments"):
        ft.frechet_loss(rows, fixed, running_stats=fidfast.Moments(DIM))
    for running_stats in (ft.FeatureQueue(3, 10), ft.MovingMoments(3, 0.9)):
        with pytest.raises(ValueError, match="running_stats has dim 3, but reference has dim 7"):
            ft.FrechetLoss(fixed, running_stats=running_stats)
    with pytest.raises(ValueError, match="features have 5 rows, but the queue was created with size=4"):
        ft.frechet_loss(rows, fixed, running_stats=ft.FeatureQueue(DIM, 4))
    with pytest.raises(ValueError, match="size must be at least 2, got 1"):
        ft.FeatureQueue(DIM, 1)
    with pytest.raises(ValueError, match=r"dtype must be .*, float32 or float64, got torch\.int64"):
        ft.FeatureQueue(DIM, 4, dtype=torch.int64)
    for make in (lambda: ft.FeatureQueue(0, 4), lambda: ft.MovingMoments(0, 0.5)):
        with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
            make()
    with pytest.raises(ValueError, match=r"decay must be from 0 to 1, got 1\.5"):
        ft.MovingMoments(DIM, 1.5)
    with pytest.raises(ValueError, match="the state has 6 rows, but the queue was created with size=4"):
        ft.FeatureQueue(DIM, 4).set_packed_state(torch.tensor([6.0, 0.0, 0.0]))
