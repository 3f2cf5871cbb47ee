"""The loss of a batch together with what went before it: a queue, and an average whose weights decay."""

import copy
import io

import numpy as np
import pytest
import reference
import torch
from losses import DIM, EPS, MOMENTS, REFERENCES, batch_of, gradient_of, moments_of, reference_rows

import fidfast
import fidfast.torch as ft
import fidfast.torch._training.loss


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize("past", MOMENTS)
@pytest.mark.parametrize("sizes", [[5], [4, 3], [1, 6, 2, 5], [5, 3, 6, 6, 6, 1, 4]], ids=str)
def test_past_and_batch_together(rng, kind, past, sizes):
    fixed = reference_rows(kind, rng)
    mu1, sigma1 = reference.moments(fixed)
    batches = [batch_of(size, rng) for size in sizes]
    moments, weights_of = moments_of(past)
    for batch in batches[:-1]:
        moments.push(torch.from_numpy(batch))
    loss = ft.FrechetLoss(fixed, moments).eval()
    weights = weights_of(sizes).astype(float)

    def oracle(batch):
        rows = np.concatenate([*batches[:-1], batch])
        return reference.weighted_distance(rows[weights > 0], weights[weights > 0], mu1, sigma1)

    value, slope = oracle(batches[-1]), reference.differences(oracle, batches[-1])
    scale = np.trace(sigma1) + value
    # A root that is left out, or of rounding, is at most sqrt(4 eps) of the largest.
    assert loss(torch.from_numpy(batches[-1])).item() == pytest.approx(value, abs=DIM * np.sqrt(4 * EPS) * scale)
    got = gradient_of(loss, batches[-1])
    np.testing.assert_allclose(got, slope, rtol=0, atol=2e-6 * np.abs(slope).max())
    assert torch.autograd.gradcheck(loss, torch.from_numpy(batches[-1]).requires_grad_())


@pytest.mark.parametrize("past", [None, *MOMENTS])
@pytest.mark.parametrize("n", [2, 6])
@pytest.mark.parametrize("refined", [1024, 0])
def test_a_generator_that_has_collapsed_has_a_gradient(rng, monkeypatch, past, n, refined):
    """Equal rows vary by rounding alone, and nothing pulls them apart."""
    monkeypatch.setattr(fidfast.torch._training.loss, "_MAX_SVD_RANK", refined)
    fixed = reference_rows("full", rng)
    moments, weights_of = (None, np.ones) if past is None else moments_of(past)
    collapsed = torch.from_numpy(batch_of(1, rng).repeat(n, axis=0) / 3)
    if moments is not None:
        moments.push(collapsed)
    total = n if past is None else weights_of([n, n]).sum()
    got = gradient_of(ft.FrechetLoss(fixed, moments), collapsed)
    expected = 2 / total * (collapsed.numpy() - fixed.mean(axis=0))
    # The mean of equal rows is theirs but for eps.
    np.testing.assert_allclose(got, expected, rtol=0, atol=64 * EPS * collapsed.abs().max())


@pytest.mark.parametrize("nothing", [np.zeros((10, DIM)), np.zeros((3, DIM))], ids=["10 rows", "3 rows"])
@pytest.mark.parametrize("past", [None, "long queue", "average"])
def test_a_reference_without_variance(rng, nothing, past):
    rows = batch_of(5, rng)
    moments = None if past is None else moments_of(past)[0]
    if moments is not None:
        moments.push(torch.from_numpy(batch_of(9, rng)))
    loss = ft.FrechetLoss(nothing, moments).eval()
    assert torch.autograd.gradcheck(loss, torch.from_numpy(rows).requires_grad_())
    if past is None:  # the mean of |x|^2, its variance unbiased
        expected = np.sum(rows.mean(0) ** 2) + np.trace(np.cov(rows.T))
        assert loss(torch.from_numpy(rows)).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("past", ["short queue", "long queue", "average"])
def test_batches_are_taken_in_while_training_only(rng, past):
    loss = ft.FrechetLoss(reference_rows("full", np.random.default_rng(1)), moments_of(past)[0])
    one, two = (torch.from_numpy(batch_of(n, rng)) for n in (4, 2))
    loss.eval()(one)
    assert loss.moments.num_samples == 0
    first = loss.train()(one)  # the batch alone, since nothing went before
    assert first.item() == ft.frechet_loss(one, reference_rows("full", np.random.default_rng(1))).item()
    assert loss.moments.num_samples == 4
    by_hand = moments_of(past)[0]
    by_hand.push(one)
    # The functional form goes by the moments' own mode.
    fixed = reference_rows("full", np.random.default_rng(1))
    assert ft.frechet_loss(two, fixed, by_hand.eval()) == loss(two)
    assert (by_hand.num_samples, loss.moments.num_samples) == (4, 6)
    assert not any(buffer.requires_grad for buffer in loss.buffers())
    loss.moments.reset()
    assert loss.moments.num_samples == 0
    assert loss(one).item() == first.item()


@pytest.mark.parametrize("size", [5, 40])
def test_a_queue_holds_the_last_rows(rng, size):
    """Merged and unmerged a hundred times, far from the origin."""
    stream = batch_of(400, rng) + 1e3
    queue = ft.FeatureQueue(size, DIM, dtype=torch.float64)
    fixed, last = reference_rows("full", rng), []
    first = 0
    for n in rng.integers(1, 6, size=100):
        batch = stream[first : first + n]
        first += n
        if first > len(stream):
            break
        last = [*last, *batch][-size:]
        if len(last) >= 2:
            value = ft.frechet_loss(torch.from_numpy(batch), fixed, queue)
            assert value.item() == pytest.approx(fidfast.fid(np.array(last), fixed), rel=1e-11)
            assert queue.num_samples == len(last)
        else:
            queue.push(torch.from_numpy(batch))
    assert queue.num_samples == size


@pytest.mark.parametrize("past", ["short queue", "long queue", "average"])
def test_a_checkpoint_goes_on_to_the_same_digits(rng, past):
    fixed, batches = reference_rows("full", rng), [torch.from_numpy(batch_of(5, rng)) for _ in range(6)]
    one, two = (ft.FrechetLoss(fixed, moments_of(past)[0]) for _ in range(2))
    for batch in batches[:4]:
        one(batch)
    assert all(key.startswith("moments.") for key in one.state_dict())  # and not the reference
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    two.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    three = copy.deepcopy(one).half()  # which keeps what is kept in float64
    for batch in batches[4:]:
        assert one(batch).item() == two(batch).item() == three(batch).item()
    assert two.moments.num_samples == one.moments.num_samples
    one.to("meta")
    assert {buffer.device.type for buffer in one.buffers()} == {"meta"}


@pytest.mark.parametrize("past", MOMENTS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_rejected_batch_leaves_the_moments_as_they_were(rng, past, value):
    loss = ft.FrechetLoss(reference_rows("full", rng), moments_of(past)[0])
    loss(torch.from_numpy(batch_of(5, rng)))
    before = copy.deepcopy(loss.state_dict())
    poisoned = torch.from_numpy(batch_of(4, rng))
    poisoned[2, 3] = poisoned[3, 0] = value
    with pytest.raises(ValueError, match="features hold NaN or infinity; the first such row is 2"):
        loss(poisoned)
    with pytest.raises(ValueError, match=r"features have 6 columns, but the (queue|moving average) has dim 7"):
        loss.moments.push(poisoned[:, 1:])
    after = loss.state_dict()
    for key, kept in before.items():
        assert torch.equal(after[key], kept) if isinstance(kept, torch.Tensor) else after[key] == kept


def test_moments_that_do_not_fit(rng):
    fixed, rows = reference_rows("full", rng), torch.from_numpy(batch_of(5, rng))
    with pytest.raises(TypeError, match="moments must be a FeatureQueue, MovingMoments or None, got Moments"):
        ft.frechet_loss(rows, fixed, fidfast.Moments(DIM))
    for moments in (ft.FeatureQueue(10, 3), ft.MovingMoments(3, 0.9)):
        with pytest.raises(ValueError, match="moments has dim 3, but reference has dim 7"):
            ft.FrechetLoss(fixed, moments)
    with pytest.raises(ValueError, match="features have 5 rows, but the queue was created with size=4"):
        ft.frechet_loss(rows, fixed, ft.FeatureQueue(4, DIM))
    with pytest.raises(ValueError, match="size must be at least 2, got 1"):
        ft.FeatureQueue(1, DIM)
    with pytest.raises(ValueError, match=r"dtype must be .*, float32 or float64, got torch\.int64"):
        ft.FeatureQueue(4, DIM, dtype=torch.int64)
    for make in (lambda: ft.FeatureQueue(4, 0), lambda: ft.MovingMoments(0, 0.5)):
        with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
            make()
    with pytest.raises(ValueError, match=r"decay must be from 0 to 1, got 1\.5"):
        ft.MovingMoments(DIM, 1.5)
    with pytest.raises(ValueError, match="the state has 6 rows, but the queue was created with size=4"):
        ft.FeatureQueue(4, DIM).set_extra_state({"count": 6, "next": 0, "since": 0})
