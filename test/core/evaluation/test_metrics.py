"""Metrics, protocols and bootstrap intervals against worked vectors and naive references."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from jmceln_core.evaluation import bootstrap, metrics
from jmceln_core.evaluation.metrics import Ratio
from jmceln_core.evaluation.protocol import PROTOCOLS, named

LAVT, CRIS = named("lavt"), named("cris")


def mask(pixels, shape=(4, 4)):
    """A mask with the given row-major pixel indices set."""
    out = np.zeros(shape, bool)
    out.flat[list(pixels)] = True
    return out


# Predicted pixels, true pixels, rejected as "no such thing".
VECTORS = {
    "A": (range(5), range(4), False),  # IoU 4/5
    "B": (range(4), range(8), False),  # IoU exactly 1/2: found for `lavt`, not for `cris`
    "C": ((14, 15), (0, 1), False),  # disjoint
    "D": ((5, 6, 7), (), True),  # nothing there, and said so
    "E": ((5, 6, 7), (), False),  # nothing there, but a mask given
    "F": (range(8), range(4), True),  # too wide a mask, and wrongly rejected
}


def vectors(names):
    """I, U, has_target, rejected of the named vectors, each (N,)."""
    rows = [(*metrics.overlap(mask(p), mask(g)), len(g) > 0, r) for p, g, r in (VECTORS[n] for n in names)]
    return (np.array(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("lavt", {"mIoU": 1.3 / 3, "oIoU": 8 / 17, "Pr@0.5": 2 / 3, "Pr@0.6": 1 / 3, "Pr@0.8": 1 / 3, "Pr@0.9": 0}),
        # B's IoU is 1/2 and A's 4/5: neither is *above* the threshold.
        ("cris", {"mIoU": 1.3 / 3, "oIoU": 8 / 17, "Pr@0.5": 1 / 3, "Pr@0.6": 1 / 3, "Pr@0.8": 0, "Pr@0.9": 0}),
    ],
)
def test_referring_vectors(protocol, expected):
    intersection, union, _, _ = vectors("ABC")
    found = metrics.referring_metrics(intersection, union, np.array([True, True, False]), named(protocol))
    assert {name: found[name].value for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found["pointing"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gres_vectors(protocol):
    found = {name: ratio.value for name, ratio in metrics.gres_metrics(*vectors("ABCDEF"), named(protocol)).items()}
    expected = {"gIoU": 2.3 / 6, "cIoU": 8 / 28, "N_acc": 1 / 2, "T_acc": 3 / 4}
    expected |= {"Pr@0.7": 1 / 4, "Pr@0.8": 0 if protocol == "cris" else 1 / 4, "Pr@0.9": 0}
    assert found == pytest.approx(expected, abs=1e-6)


def naive_gres(samples):
    """GRES sample by sample in exact fractions: (predicted set, true set, rejected)."""
    ious, total_i, total_u, tp, fn, tn, fp = [], 0, 0, 0, 0, 0, 0
    for predicted, true, rejected in samples:
        if not true:
            tp, fn = tp + rejected, fn + (not rejected)
            ious.append(Fraction(int(rejected)))
            total_u += 0 if rejected else len(predicted)
        else:
            tn, fp = tn + (not rejected), fp + rejected
            shared = 0 if rejected else len(predicted & true)
            ious.append(Fraction(shared, len(predicted | true)))
            total_i, total_u = total_i + shared, total_u + len(predicted | true)
    targeted = [iou for iou, (_, true, _) in zip(ious, samples, strict=True) if true]
    return {
        "gIoU": sum(ious) / len(ious),
        "cIoU": Fraction(total_i, total_u),
        **{f"Pr@{x}": Fraction(sum(iou >= x for iou in targeted), len(targeted)) for x in (0.7, 0.8, 0.9)},
        "N_acc": Fraction(tp, tp + fn),
        "T_acc": Fraction(tn, tn + fp),
    }


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_naive_sets(seed):
    rng = np.random.default_rng(seed)
    samples, rows = [], []
    for n in range(60):
        predicted = rng.random((5, 7)) < rng.choice([0, 0.3, 0.8])
        true = rng.random((5, 7)) < (0 if n % 3 == 0 else 0.5)
        rejected = bool(rng.random() < 0.4)
        samples.append((set(np.flatnonzero(predicted)), set(np.flatnonzero(true)), rejected))
        rows.append((*metrics.overlap(predicted, true), true.any(), rejected))
    intersection, union, has_target, rejected = (np.array(column) for column in zip(*rows, strict=True))

    found = metrics.gres_metrics(intersection, union, has_target, rejected, LAVT)
    assert {k: v.value for k, v in found.items()} == pytest.approx(
        {k: float(v) for k, v in naive_gres(samples).items()}
    )

    targeted = [(p, t) for p, t, _ in samples if t]
    ious = [Fraction(len(p & t), len(p | t)) for p, t in targeted]
    found = metrics.referring_metrics(intersection[has_target], union[has_target], np.ones(len(ious), bool), LAVT)
    assert found["mIoU"].value == pytest.approx(float(sum(ious) / len(ious)))
    assert found["oIoU"].value == pytest.approx(
        float(Fraction(sum(len(p & t) for p, t in targeted), sum(len(p | t) for p, t in targeted)))
    )
    for x in LAVT.thresholds:
        assert found[f"Pr@{x:g}"].value == pytest.approx(sum(iou >= Fraction(f"{x}") for iou in ious) / len(ious))


@pytest.mark.parametrize("threshold", LAVT.thresholds)
def test_iou_exactly_at_a_threshold(threshold):
    """X = 0.5 ... 0.9 are IoUs of small masks (7 of 10 pixels): floating point must not decide them."""
    union = np.array([10, 20, 1000])
    intersection = np.rint(union * threshold).astype(int)
    assert metrics.precision_at(intersection, union, threshold, LAVT).value == 1
    assert metrics.precision_at(intersection, union, threshold, CRIS).value == 0
    assert metrics.precision_at(intersection + 1, union, threshold, CRIS).value == 1


def test_cris_adds_its_epsilon_to_the_union():
    one = np.array([1])
    assert metrics.mean_iou(one, one, LAVT).value == 1
    assert metrics.mean_iou(one, one, CRIS).value == pytest.approx(1 / (1 + 1e-6), abs=1e-12)


def test_two_empty_masks_score_zero_not_nan():
    for protocol in PROTOCOLS.values():
        assert metrics.mean_iou(np.array([0]), np.array([0]), protocol).value == 0


def test_no_samples_is_nan():
    nothing = np.array([], int)
    found = metrics.referring_metrics(nothing, nothing, nothing.astype(bool), LAVT)
    assert all(math.isnan(ratio.value) for ratio in found.values())
    # Sentences that all mean something say nothing about rejecting those that do not.
    assert math.isnan(metrics.rejection_metrics(np.array([True]), np.array([False]))["N_acc"].value)


@pytest.mark.parametrize(
    ("predicted", "target", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool), r"predicted mask must be \(H, W\) bool"),
        (np.zeros((4, 4), bool), np.zeros((4, 4), np.float32), r"target mask must be \(H, W\) bool"),
        (np.zeros((1, 4, 4), bool), np.zeros((4, 4), bool), r"predicted mask must be \(H, W\) bool"),
        (np.zeros((4, 4), bool), np.zeros((8, 4), bool), "un-warp"),
    ],
)
def test_overlap_refuses_what_it_cannot_compare(predicted, target, message):
    with pytest.raises(ValueError, match=message):
        metrics.overlap(predicted, target)


@pytest.mark.parametrize(
    ("anchor", "inside"),
    [
        ((2, 1), True),  # u is the column, v the row: pixel 6
        ((1, 2), False),  # the transposed reading must miss
        ((2.4, 0.6), True),  # nearest pixel centre
        ((2.5, 1), False),  # halves round up, always
        ((1.5, 0.5), True),
        ((-3, 1), False),  # outside the picture, and no wrapping round
        ((2, -3), False),
        ((6, 1), False),
        (None, False),
    ],
)
def test_points_inside(anchor, inside):
    assert metrics.points_inside(anchor, mask([6])) is inside


# Boundary IoU -----------------------------------------------------------------------------------------------------


def naive_boundary(mask, distance):
    """Pixels of the mask from which `distance` king's moves, or fewer, lead out of it or out of the picture."""
    height, width = mask.shape
    band = np.zeros_like(mask)
    for row, column in zip(*np.nonzero(mask), strict=True):
        for r in range(row - distance, row + distance + 1):
            for c in range(column - distance, column + distance + 1):
                if not (0 <= r < height and 0 <= c < width and mask[r, c]):
                    band[row, column] = True
    return band


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("height", "width", "distance"),
    [(4, 4, 1), (1, 9, 1), (60, 45, 2), (45, 61, 2), (100, 75, 2), (100, 76, 3)],  # 2 % of 75: 1.5 is 2; of 125: 2.5
)
def test_boundary_equals_a_naive_search(seed, height, width, distance):
    if (height, width) == (100, 75):  # a diagonal of exactly 125: round half to even, as the authors' code does
        assert 0.02 * math.hypot(height, width) == pytest.approx(2.5)
    rng = np.random.default_rng(seed)
    # Blobs with holes, touching the border; every seed another size.
    blob = np.kron(rng.random((height // 8 + 1, width // 8 + 1)) < 0.3 + 0.1 * seed, np.ones((8, 8), bool))
    mask = blob[:height, :width] & (rng.random((height, width)) < 0.98)
    np.testing.assert_array_equal(metrics.boundary(mask), naive_boundary(mask, distance))


def test_the_pictures_border_is_a_boundary():
    full = np.ones((60, 45), bool)
    band = metrics.boundary(full)
    assert band[:2].all()
    assert band[:, -2:].all()
    assert not band[2:-2, 2:-2].any()
    assert not metrics.boundary(~full).any()


def test_boundary_of_a_usual_picture_is_16_pixels_wide():
    mask = np.zeros((480, 640), bool)
    mask[100:300, 200:400] = True
    core = mask & ~metrics.boundary(mask)
    rows, columns = np.nonzero(core)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (116, 283, 216, 383)


def test_boundary_iou_sees_what_iou_forgives():
    """A large square, everywhere 8 pixels too small: a good IoU, half a boundary."""
    true, predicted = np.zeros((2, 480, 640), bool)
    true[40:440, 40:440] = True
    predicted[48:432, 48:432] = True
    iou = metrics.mean_iou(*(np.array([n]) for n in metrics.overlap(predicted, true)), LAVT).value
    bands = metrics.overlap(metrics.boundary(predicted), metrics.boundary(true))
    assert iou > 0.92
    # Frames 16 wide that share the 8 in the middle: from 48 to 56 within 40..440.
    shared = 384**2 - 368**2
    assert bands == (shared, (400**2 - 368**2) + (384**2 - 352**2) - shared)


def test_boundary_of_a_slice_of_another_array():
    mask = np.zeros((40, 40, 2), bool)
    mask[10:20, 10:20, 1] = True
    np.testing.assert_array_equal(metrics.boundary(mask[..., 1]), naive_boundary(mask[..., 1], 1))


def test_unknown_protocol_lists_the_known():
    with pytest.raises(ValueError, match="lavt, cris"):
        named("refer")


# Bootstrap --------------------------------------------------------------------------------------------------------


def clustered(rng, groups=12):
    """Ratios of samples in groups of unequal size whose samples resemble each other, and the groups' labels."""
    sizes = rng.integers(1, 9, groups)
    group = np.repeat(rng.permutation(1000)[:groups], sizes)
    shared = np.repeat(rng.random(groups), sizes)
    union = rng.integers(1, 5000, len(group))
    intersection = np.rint(union * shared).astype(int)
    ratios = metrics.referring_metrics(intersection, union, shared > 0.5, LAVT)
    return ratios | metrics.rejection_metrics(shared > 0.3, rng.random(len(group)) < 0.5), group


def naive_intervals(ratios, groups, draws, rng):
    labels = sorted(set(groups.tolist()))
    values = {name: [] for name in ratios}
    for _ in range(draws):
        picked = [labels[i] for i in rng.integers(len(labels), size=len(labels))]
        rows = np.concatenate([np.flatnonzero(groups == label) for label in picked])
        for name, ratio in ratios.items():
            below = ratio.denominator[rows].sum()
            if below:
                values[name].append(ratio.numerator[rows].sum() / below)
    return {name: np.percentile(v, [2.5, 97.5]) for name, v in values.items()}


@pytest.mark.parametrize("seed", range(3))
def test_bootstrap_equals_a_naive_loop(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    ratios, groups = clustered(rng)
    # Several chunks of draws; the naive loop's generator is asked for the same numbers in the same order.
    monkeypatch.setattr(bootstrap, "_CELLS", 50)
    found = bootstrap.intervals(ratios, groups, draws=200, seed=seed)
    expected = naive_intervals(ratios, groups, 200, np.random.default_rng(seed))
    for name, ratio in ratios.items():
        assert found[name].value == ratio.value
        assert found[name][1:] == pytest.approx(expected[name], abs=1e-12), name


def test_bootstrap_is_seeded_and_ignores_the_order_of_samples():
    ratios, groups = clustered(np.random.default_rng(0))
    first = bootstrap.intervals(ratios, groups, draws=500, seed=1)
    assert bootstrap.intervals(ratios, groups, draws=500, seed=1) == first
    assert bootstrap.intervals(ratios, groups, draws=500, seed=2) != first
    order = np.random.default_rng(3).permutation(len(groups))
    shuffled = {name: Ratio(r.numerator[order], r.denominator[order]) for name, r in ratios.items()}
    again = bootstrap.intervals(shuffled, groups[order], draws=500, seed=1)
    for name in ratios:
        assert again[name] == pytest.approx(first[name], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_paired_bootstrap_equals_a_naive_loop(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    a, groups = clustered(rng)
    size = len(groups)
    b = {name: Ratio(ratio.numerator * rng.random(size), ratio.denominator) for name, ratio in a.items()}
    monkeypatch.setattr(bootstrap, "_CELLS", 50)
    found = bootstrap.differences(a, b, groups, draws=150, seed=seed)
    labels, generator = sorted(set(groups.tolist())), np.random.default_rng(seed)
    changes = {name: [] for name in a}
    for _ in range(150):
        picked = [labels[i] for i in generator.integers(len(labels), size=len(labels))]
        rows = np.concatenate([np.flatnonzero(groups == label) for label in picked])
        for name, change in changes.items():
            if below := a[name].denominator[rows].sum():
                change.append((b[name].numerator[rows].sum() - a[name].numerator[rows].sum()) / below)
    for name, change in changes.items():
        assert (found[name].a, found[name].b) == (a[name].value, b[name].value)
        assert found[name].difference == found[name].b - found[name].a
        assert found[name][3:5] == pytest.approx(np.percentile(change, [2.5, 97.5]), abs=1e-12)
        assert found[name].better == pytest.approx(np.mean(np.array(change) > 0))


def test_pairing_cancels_what_both_find_hard():
    """B is everywhere .01 better, pictures differ by far more: each interval is wide, the gain is sure."""
    hard = np.random.default_rng(0).random(30)
    a, b = ({"mIoU": Ratio(hard + gain, np.ones(30))} for gain in (0, 0.01))
    groups = np.arange(30)
    found = bootstrap.differences(a, b, groups, draws=500)["mIoU"]
    assert found[2:5] == pytest.approx((0.01, 0.01, 0.01))
    assert found.better == 1
    alone = bootstrap.intervals(a, groups, draws=500)["mIoU"]
    assert alone.high - alone.low > 0.1
    same = bootstrap.differences(a, a, groups, draws=500)["mIoU"]
    assert same[2:] == (0, 0, 0, 0)  # equal is not better


def test_paired_bootstrap_covers_the_true_difference():
    rng = np.random.default_rng(2)
    covered, trials, groups, each = 0, 200, 50, 4
    for trial in range(trials):
        hard = np.repeat(rng.random(groups), each)
        gain = np.repeat(rng.normal(0.03, 0.1, groups), each) + rng.normal(0, 0.1, groups * each)
        a, b = ({"mean": Ratio(values, np.ones(groups * each))} for values in (hard, hard + gain))
        labels = np.repeat(np.arange(groups), each)
        found = bootstrap.differences(a, b, labels, draws=400, seed=trial)["mean"]
        covered += found.low <= 0.03 <= found.high
    assert 0.90 <= covered / trials <= 0.98


def test_paired_bootstrap_takes_what_both_have_and_says_nothing_from_one_picture():
    ratio = Ratio(np.array([0.0, 1.0]), np.ones(2))
    found = bootstrap.differences({"x": ratio, "only a": ratio}, {"only b": ratio, "x": ratio}, np.array([7, 7]))
    assert list(found) == ["x"]
    assert found["x"][:3] == (0.5, 0.5, 0)
    assert all(math.isnan(value) for value in found["x"][3:])


def test_bootstrap_covers_the_truth():
    """About 95 % of the intervals hold the true mean where samples of a group are alike; sample-wise ones would not."""
    rng = np.random.default_rng(0)
    groups, each, truth = 60, 6, 0.4
    by_group = by_sample = 0
    trials = 200
    for trial in range(trials):
        shared = np.repeat(rng.beta(2, 3, groups), each)  # mean 2 / (2 + 3)
        values = (rng.random(groups * each) < shared).astype(float)
        ratio = {"mean": Ratio(values, np.ones_like(values))}
        _, low, high = bootstrap.intervals(ratio, np.repeat(np.arange(groups), each), draws=400, seed=trial)["mean"]
        by_group += low <= truth <= high
        _, low, high = bootstrap.intervals(ratio, np.arange(groups * each), draws=400, seed=trial)["mean"]
        by_sample += low <= truth <= high
    assert 0.90 <= by_group / trials <= 0.98
    assert by_sample / trials < 0.90


def test_bootstrap_covers_a_ratio_of_sums():
    rng = np.random.default_rng(1)
    covered, trials, groups = 0, 300, 80
    for trial in range(trials):
        union = rng.integers(100, 2000, groups)
        # E[I] / E[U] = .5 E[U] / E[U] + 50 / E[U]: large unions are matched worse, so oIoU is not mIoU.
        intersection = 0.5 * union + rng.uniform(0, 100, groups)
        truth = 0.5 + 50 / 1049.5
        ratio = {"oIoU": metrics.overall_iou(intersection, union)}
        _, low, high = bootstrap.intervals(ratio, np.arange(groups), draws=400, seed=trial)["oIoU"]
        covered += low <= truth <= high
    assert 0.90 <= covered / trials <= 0.98


def test_bootstrap_says_nothing_from_one_picture():
    ratio = {"mean": Ratio(np.array([0.0, 1.0]), np.ones(2))}
    value, low, high = bootstrap.intervals(ratio, np.array([7, 7]))["mean"]
    assert value == 0.5
    assert math.isnan(low)
    assert math.isnan(high)


def test_bootstrap_of_nothing():
    empty = {"mean": Ratio(np.array([]), np.array([]))}
    assert all(math.isnan(x) for x in bootstrap.intervals(empty, np.array([]))["mean"])
    # Two pictures, but not one sample counts.
    never = {"N_acc": Ratio(np.zeros(2), np.zeros(2))}
    assert all(math.isnan(x) for x in bootstrap.intervals(never, np.array([0, 1]))["N_acc"])


@pytest.mark.parametrize("arguments", [{"level": 1.0}, {"level": 0.0}, {"draws": 0}])
def test_bootstrap_refuses_nonsense(arguments):
    with pytest.raises(ValueError, match="level must lie"):
        bootstrap.intervals({}, np.array([]), **arguments)
