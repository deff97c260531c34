import numpy as np
import pytest
import torch

from atat_ray.dependence.hsic import (
    against_permutations,
    cka,
    coco,
    coco_frobenius,
    hsic,
    nocco,
)
from atat_ray.dependence.kernels import centred, gaussian_kernel, linear_kernel, median_bandwidth
from atat_ray.utils.seeding import generator

MEASURES = (hsic, cka, nocco, coco, coco_frobenius)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed)).double()


def looped_hsic(k, m):
    """The unbiased estimator as sums over different indices, every one of them written out."""
    n = len(k)
    pairs = triples = quads = 0.0
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            pairs += k[i, j] * m[i, j]
            for q in range(n):
                if q in (i, j):
                    continue
                triples += k[i, j] * m[i, q]
                for r in range(n):
                    if r not in (i, j, q):
                        quads += k[i, j] * m[q, r]
    two, three, four = n * (n - 1), n * (n - 1) * (n - 2), n * (n - 1) * (n - 2) * (n - 3)
    return pairs / two - 2 * triples / three + quads / four


@pytest.mark.parametrize("kernel", [gaussian_kernel, linear_kernel])
def test_hsic_and_cka_are_the_sums_over_indices(kernel):
    x = normal(8, 3)
    y = x[:, :2] + normal(8, 2, seed=1)
    k, m = kernel(x), kernel(y)
    loops = {pair: looped_hsic(a.numpy(), b.numpy())
             for pair, (a, b) in {"km": (k, m), "kk": (k, k), "mm": (m, m)}.items()}  # fmt: skip
    assert float(hsic(k, m)) == pytest.approx(loops["km"], rel=1e-9)
    expected = loops["km"] / np.sqrt(loops["kk"] * loops["mm"])
    assert float(cka(k, m)) == pytest.approx(expected, rel=1e-9)


def test_kernels_are_written_out():
    x = normal(6, 2, 2)
    loops = np.array([[float((a - b).norm()) for b in x] for a in x])
    pairs = loops[np.triu_indices(6, 1)]
    median = float(np.sort(pairs)[(len(pairs) - 1) // 2])
    assert float(median_bandwidth(x)) == pytest.approx(median)
    assert np.allclose(gaussian_kernel(x).numpy(), np.exp(-(loops**2) / (2 * median**2)))
    h = np.eye(6) - 1 / 6
    kernel = linear_kernel(x).numpy()
    assert np.allclose(kernel, x.flatten(1).numpy() @ x.flatten(1).numpy().T)
    assert np.allclose(centred(linear_kernel(x)).numpy(), h @ kernel @ h)


def test_hsic_is_zero_on_average_for_independent_rows_and_the_naive_sum_is_not():
    found, biased = [], []
    for seed in range(300):
        k = gaussian_kernel(normal(12, 4, seed=seed))
        m = gaussian_kernel(normal(12, 4, seed=10_000 + seed))
        found.append(float(hsic(k, m)))
        biased.append(float((centred(k) * centred(m)).sum()) / 11**2)
    error = np.std(found) / np.sqrt(300)
    assert abs(np.mean(found)) < 4 * error
    assert np.mean(biased) > 20 * error


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_the_median_heuristic_makes_hsic_invariant_to_the_scale_of_features(scale):
    x, y = normal(20, 5), normal(20, 3, seed=1)
    plain = float(hsic(gaussian_kernel(x), gaussian_kernel(y)))
    assert float(hsic(gaussian_kernel(x * scale), gaussian_kernel(y))) == pytest.approx(plain)
    assert float(cka(gaussian_kernel(x), gaussian_kernel(x * scale))) == pytest.approx(1.0)


@pytest.mark.parametrize("measure", [hsic, cka])
def test_permutations_find_dependence_and_only_that(measure):
    x = normal(40, 6)
    options = {"permutations": 99, "generator": generator("permutations")}
    dependent = against_permutations(
        measure, gaussian_kernel(x), gaussian_kernel(x[:, :2]), **options
    )
    assert dependent.p_value == 0.01
    assert dependent.value > dependent.null_mean + 3 * dependent.null_sd
    p_values = [
        against_permutations(
            measure, gaussian_kernel(normal(20, 3, seed=s)),
            gaussian_kernel(normal(20, 3, seed=900 + s)),
            permutations=19, generator=generator(s),
        ).p_value
        for s in range(60)
    ]  # fmt: skip
    assert 0.35 < np.mean(p_values) < 0.7
    with pytest.raises(ValueError, match="permutations must be 1 or more, got 0"):
        against_permutations(measure, x, x, permutations=0, generator=generator(0))


def faces_like(count, seed):
    """Images whose amplitudes fall with frequency, as those of photographs do."""
    noise = torch.fft.fft2(normal(count, 3, 32, 32, seed=seed))
    y, x = torch.meshgrid(torch.fft.fftfreq(32), torch.fft.fftfreq(32), indexing="ij")
    images = torch.fft.ifft2(noise / (y**2 + x**2).sqrt().clamp_min(1 / 32)).real
    flat = images.flatten(1)
    least, most = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return ((flat - least) / (most - least) * 2 - 1).view_as(images)


def test_at_a_batch_of_128_cka_detects_dependence_and_nocco_does_not():
    """The features are a function of the images, or of other images; sigma is that of BiDO."""
    images, others = faces_like(128, 1), faces_like(128, 2)
    weights = normal(3 * 32 * 32, 512, seed=3) / (3 * 32 * 32) ** 0.5
    features = [(of.flatten(1) @ weights).relu() for of in (images, others)]
    dependent, independent = (
        float(nocco(gaussian_kernel(images, 5 * 3072**0.5), gaussian_kernel(z, 5 * 512**0.5)))
        for z in features
    )
    assert abs(dependent - independent) < 0.05 * independent
    assert independent > 20  # and it is far from 0 where nothing depends
    dependent, independent = (
        float(cka(gaussian_kernel(images), gaussian_kernel(z))) for z in features
    )
    assert dependent > 0.5
    assert abs(independent) < 0.05


def test_nocco_and_coco_are_written_out():
    k, m = gaussian_kernel(normal(9, 2)).numpy(), gaussian_kernel(normal(9, 4, seed=1)).numpy()
    h = np.eye(9) - 1 / 9
    r, s = (a @ h @ np.linalg.inv(a @ h + 9e-5 * np.eye(9)) for a in (k, m))
    k_, m_ = torch.from_numpy(k), torch.from_numpy(m)
    assert float(nocco(k_, m_)) == pytest.approx(np.trace(r @ s), rel=1e-6)
    for measure, norm in ((coco, 2), (coco_frobenius, "fro")):
        expected = np.sqrt(np.linalg.norm(h @ k @ h @ h @ m @ h, norm)) / 9
        assert float(measure(k_, m_)) == pytest.approx(expected, rel=1e-6)
    assert float(coco(k_, m_)) < 0.99 * float(coco_frobenius(k_, m_))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("bandwidth", [None, 5 * 3**0.5])
def test_the_gradient_of_a_measure_is_that_of_its_value(measure, bandwidth):
    """By finite differences of the value, in which the median distance moves as well."""
    other = gaussian_kernel(normal(7, 4, seed=1))

    def value(rows):
        return measure(gaussian_kernel(rows, bandwidth), other)

    assert torch.autograd.gradcheck(value, normal(7, 3).requires_grad_(), rtol=5e-3)


@pytest.mark.parametrize("measure", MEASURES)
def test_with_the_median_bandwidth_no_measure_can_be_lowered_by_scaling_the_features(measure):
    rows = normal(12, 5)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    measure(gaussian_kernel(rows * scale), gaussian_kernel(normal(12, 4, seed=1))).backward()
    assert abs(float(scale.grad)) < 1e-9


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("different", [0, 1, 2])
def test_features_that_are_mostly_equal_have_finite_values_and_gradients(measure, different):
    """As those of a stage whose units are dead; the median distance is then 0."""
    rows = torch.zeros(8, 5)
    rows[:different] = torch.rand(different, 5, generator=generator("rows"))
    rows.requires_grad_()
    value = measure(gaussian_kernel(rows), gaussian_kernel(normal(8, 4, seed=1).float()))
    value.backward()
    assert rows.grad.isfinite().all()
    assert value.isfinite()
    assert different or abs(value.item()) < 1e-6


def test_matrices_that_are_no_kernels_of_one_batch_are_refused():
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(3, 2\)"):
        hsic(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="at least 4 rows are needed, got 3"):
        hsic(torch.eye(3), torch.eye(3))
