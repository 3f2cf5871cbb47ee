"""Checkpoints of modules with metrics and running statistics: one tensor each, and no error if they are missing."""

import copy
import io

import numpy as np
import pytest
import safetensors.torch
import torch
from pooled import Pooled

import fidfast
import fidfast.torch as ft
from fidfast import Moments
from fidfast.torch._training.packing import pack, unpack

DIM = 5


def metric(**options):
    return ft.FrechetDistance(Pooled(), np.eye(DIM), **options)


#: Parts of a module that have a state, and a batch is added with `add`.
PARTS = {
    "metric": metric,
    "metric with blocks": lambda **options: metric(blocks=3, **options),
    "metric in float64": lambda **options: metric(precision="float64", **options),
    "queue of few rows": lambda **options: ft.FeatureQueue(DIM, 4, **options),
    "queue of many rows": lambda **options: ft.FeatureQueue(DIM, 11, **options),
    "moving average": lambda **options: ft.MovingMoments(DIM, 0.9, **options),
    "loss": lambda **options: ft.FrechetLoss(np.eye(DIM), running_stats=ft.MovingMoments(DIM, 0.9, **options)),
}
in_all_parts = pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)


def batch(n, seed=0, dtype=torch.float32):
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def add(part, rows):
    if isinstance(part, ft.FrechetDistance):
        part.update_features(rows)
    elif isinstance(part, ft.FrechetLoss):
        part(rows)
    else:
        part.push(rows)


def module(part=None):
    """A network, and a part that was added to it later."""
    made = torch.nn.ModuleDict({"network": torch.nn.Linear(2, 3)})
    if part is not None:
        made["part"] = part
    return made


def filled(make, sizes=(3, 2), dtype=torch.float32):
    part = make()
    for seed, n in enumerate(sizes):
        add(part, batch(n, seed, dtype))
    return part


@in_all_parts
@pytest.mark.parametrize("strict", [True, False])
def test_state_without_the_part_leaves_it_as_it_is(make, strict):
    yesterday, today = module(), module(filled(make))
    before = copy.deepcopy(today.state_dict())
    assert not any(today.load_state_dict(yesterday.state_dict(), strict=strict))
    assert torch.equal(today["network"].weight, yesterday["network"].weight)
    for key, value in today["part"].state_dict().items():
        assert torch.equal(value, before[f"part.{key}"])


@in_all_parts
def test_state_of_a_part_that_is_gone(make):
    with_part, without = module(filled(make)), module()
    with pytest.raises(RuntimeError, match=r'Unexpected key.* in state_dict: "part\.'):
        without.load_state_dict(with_part.state_dict())
    assert without.load_state_dict(with_part.state_dict(), strict=False).missing_keys == []
    # With persistent=False there is nothing to load or to miss.
    hidden = module(make(persistent=False))
    assert hidden.state_dict().keys() == without.state_dict().keys()
    for one, two in ((hidden, without), (without, hidden)):
        one.load_state_dict(two.state_dict())


@in_all_parts
def test_persistent_state_is_ignored_without_persistence(make):
    part = make(persistent=False)
    part.load_state_dict(filled(make).state_dict())
    stats = getattr(part, "running_stats", getattr(part, "moments", part))
    assert stats.num_samples == 0
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"mystery"'):
        part.load_state_dict({"mystery": torch.zeros(1)})


@in_all_parts
@pytest.mark.parametrize("sizes", [(), (2,), (3, 2), (4, 4, 3, 2), (4,) * 260])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", ["torch.save", "safetensors"])
@pytest.mark.grid(keep=30)
def test_state_is_restored_with_all_digits(make, sizes, dtype, way, tmp_path):
    one, two = module(filled(make, sizes, dtype)), module(make())
    if way == "torch.save":
        torch.save(one.state_dict(), file := io.BytesIO())
        two.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    else:
        safetensors.torch.save_model(one, str(tmp_path / "model.safetensors"))
        safetensors.torch.load_model(two, tmp_path / "model.safetensors")
    assert all(torch.equal(value, one["part"].state_dict()[key]) for key, value in two["part"].state_dict().items())
    for other in (one, two):
        add(other["part"], batch(3, 7, dtype))
    assert all(torch.equal(value, one["part"].state_dict()[key]) for key, value in two["part"].state_dict().items())


@in_all_parts
def test_every_value_is_a_tensor_of_a_fixed_shape(make):
    """As in loops over the values, averages of weights, and loaders that copy into existing tensors."""
    empty, part = make(), filled(make, (4,) * 260)
    for average, value in zip(empty.state_dict().values(), part.state_dict().values(), strict=True):
        assert average.shape == value.shape
        assert value.numel() * value.element_size() > 0
        average.copy_(average * 0.9 + value * 0.1)  # as timm's ModelEmaV2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_state_of_the_metric_survives_conversions(dtype):
    """Numbers from 0 to 255 are exact in every dtype."""
    one, two = filled(metric), metric()
    two.load_state_dict({key: value.to(dtype) for key, value in one.state_dict().items()})
    assert two.moments == one.moments


def test_values_of_the_metric_share_no_memory_with_it():
    part = filled(metric)
    before = part.compute()
    for value in part.state_dict().values():
        value.zero_()
    assert part.compute() == before


@in_all_parts
def test_incomplete_and_damaged_states(make):
    part = filled(make)
    state = part.state_dict()
    key = next(key for key, value in state.items() if value.dtype == torch.uint8)
    if len(state) > 1:  # the buffers without the counts
        with pytest.raises(RuntimeError, match=f'Missing key.* "{key}"'):
            make().load_state_dict({name: value for name, value in state.items() if name != key})
    for damaged in (state[key][:-3], state[key][:8], torch.full_like(state[key], 255)):
        check_unchanged(make, {**state, key: damaged}, "checksum does not match")


def check_unchanged(make, state, warning):
    part = filled(make, (2,))
    before = copy.deepcopy(part.state_dict())
    with pytest.warns(UserWarning, match=warning):
        part.load_state_dict(state)
    assert all(torch.equal(value, before[key]) for key, value in part.state_dict().items())


@in_all_parts
@pytest.mark.parametrize("average", [lambda x, y: (x + y) / 2, lambda x, y: 0.9 * x + 0.1 * y], ids=["mean", "EMA"])
def test_averaged_states(make, average):
    one, two = (filled(make, sizes).state_dict() for sizes in ((3, 2), (4, 4, 3, 2)))
    check_unchanged(make, {key: average(one[key], two[key]) for key in one}, "averaged with other states")


@in_all_parts
def test_weighted_sum_of_equal_states(make):
    """The products are rounded, and not truncated."""
    state = filled(make).state_dict()
    part = make()
    part.load_state_dict({key: 0.9 * value + 0.1 * value for key, value in state.items()})
    key = next(key for key, value in state.items() if value.dtype == torch.uint8)
    assert torch.equal(part.state_dict()[key], state[key])


@pytest.mark.parametrize("sizes", [(11, 12), (4, 11)], ids=["rows of another shape", "other buffers"])
def test_queue_of_another_size(sizes):
    """With ``strict=False``, loaders remove the entries whose shape differs."""
    one, two = (filled(lambda size=size: ft.FeatureQueue(DIM, size), (3,)) for size in sizes)
    state, before = one.state_dict(), copy.deepcopy(two.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for rows"):
        two.load_state_dict(state)
    shared = {key: value for key, value in state.items() if key in before and value.shape == before[key].shape}
    assert "rows" in two.load_state_dict(shared, strict=False).missing_keys
    assert two.num_samples == 3
    assert all(torch.equal(value, before[key]) for key, value in two.state_dict().items())


@pytest.mark.parametrize("strict", [True, False])
def test_mismatch_does_not_stop_loading_of_other_modules(strict):
    one, two = module(filled(PARTS["metric with blocks"])), torch.nn.ModuleDict({"part": filled(metric)})
    two["network"] = torch.nn.Linear(2, 3)
    with pytest.raises(RuntimeError, match=r"part\.moments: the state has 3 blocks, but the metric has 1"):
        two.load_state_dict(one.state_dict(), strict=strict)
    assert torch.equal(one["network"].weight, two["network"].weight)
    assert two["part"].moments == filled(metric).moments


def test_state_of_another_metric():
    state = filled(PARTS["metric with blocks"]).state_dict()
    with pytest.raises(RuntimeError, match="the state has 3 blocks, but the metric has 1: create it with blocks=3"):
        metric().load_state_dict(state)
    with pytest.raises(RuntimeError, match="the state has 1 blocks, but the metric has 3"):
        PARTS["metric with blocks"]().load_state_dict(filled(metric).state_dict())
    with pytest.raises(RuntimeError, match="the state has dim 5, but the reference has dim 4"):
        ft.FrechetDistance(None, np.eye(4), blocks=3).load_state_dict(state)
    queue = filled(lambda: ft.FeatureQueue(DIM, 11))
    with pytest.raises(ValueError, match="the state has 5 rows, but the queue was created with size=4"):
        ft.FeatureQueue(DIM, 4).set_packed_state(queue.packed_state())


def test_metric_continues_in_its_precision():
    one = filled(PARTS["metric in float64"])
    two = metric()
    two.load_state_dict(one.state_dict())
    assert two.moments == one.moments
    assert two.moments.precision == "float64"


def test_rounding_bound_is_restored():
    """From 512 features, products of float32 rows are rounded, and `frechet_terms` reports a bound."""
    # Rows are added to the scatter by 1,024.
    rows = torch.randn(1030, 512, generator=torch.Generator().manual_seed(0))
    one, two = (ft.FrechetDistance(None, np.eye(512)) for _ in range(2))
    one.update_features(rows)
    two.load_state_dict(one.state_dict())
    terms = [fidfast.frechet_terms(metric.moments, metric.reference) for metric in (one, two)]
    assert one.moments.stats().product_errors.any()
    assert terms[0] == terms[1]


@pytest.mark.parametrize("name", ["queue of few rows", "queue of many rows", "moving average"])
def test_state_assigned_to_a_module_without_memory(name):
    state = filled(PARTS[name]).state_dict()
    with torch.device("meta"):
        part = PARTS[name]()
    assert "num_samples=0" in repr(part)
    part.load_state_dict(state, assign=True)
    assert all(torch.equal(value, state[key]) for key, value in part.state_dict().items())
    add(part, batch(3, 7))


def test_state_of_another_extractor():
    made = [ft.FrechetDistance(None, fidfast.GaussianStats(np.zeros(DIM), np.eye(DIM), extractor=n)) for n in "ab"]
    with pytest.warns(UserWarning, match="the state is of the extractor 'a', but the metric has 'b'"):
        made[1].load_state_dict(made[0].state_dict())
    made[0].load_state_dict(made[0].state_dict())
    metric().load_state_dict(filled(lambda: ft.FrechetDistance(None, np.eye(DIM))).state_dict())  # without a name


@pytest.mark.parametrize("change", [{0: 1024.5}, {0: -1.0}, {1: 0.5}, {4: float("nan")}, {-1: float("inf")}])
def test_packed_moments_with_other_numbers_are_refused(rng, change):
    packed = pack(Moments.from_features(rng.standard_normal((1100, 4))))
    assert unpack(packed, 4, precision="float32", extractor=None).num_samples == 1100
    for position, value in change.items():
        packed[position] = value
    with pytest.raises(ValueError, match=r"state|finite"):
        unpack(packed, 4, precision="float32", extractor=None)
