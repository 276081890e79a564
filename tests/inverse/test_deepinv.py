"""deepinv's operators as ours and ours as theirs: with a stand-in of the same interface, and with the package where it is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from inverse.deepinv import from_deepinv, to_deepinv
from inverse.operators import Blur, Downsample, Gaussian, LinearOperator, Noiseless, Overexpose, Poisson

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Halves:
    """The upper half, doubled, in deepinv's interface."""

    noise_model = SimpleNamespace(sigma=torch.tensor(0.05))

    def A(self, x):
        return 2 * x[..., : x.shape[-2] // 2, :]

    def A_adjoint(self, y):
        return torch.cat([2 * y, torch.zeros_like(y)], -2)


def test_a_linear_physics_becomes_a_linear_operator():
    A = from_deepinv(Halves(), (3, 16, 16))
    assert isinstance(A, LinearOperator)
    assert A.noise.sigma == pytest.approx(0.05)
    assert A.codomain == (3, 8, 16)
    assert A.adjointness() < 1e-6
    torch.testing.assert_close(A.pinv(A(X))[..., :8, :], X[..., :8, :])
    u = A.prox(X, A(X) + 1, 2.0)
    torch.testing.assert_close(u[..., :8, :], X[..., :8, :] + 2 / 6)  # (4 + 2) u = 2 y + 2 x


def test_what_is_no_physics_is_refused():
    with pytest.raises(TypeError, match="physics must be a deepinv physics, with a method A, got int"):
        from_deepinv(3, (3, 16, 16))
    with pytest.raises(TypeError, match="must measure one tensor, got list"):
        from_deepinv(SimpleNamespace(A=lambda x: [x]), (3, 16, 16))
    poisson = from_deepinv(SimpleNamespace(A=lambda x: x**2, noise_model=SimpleNamespace(gain=0.01)), (3, 16, 16))
    assert poisson.noise.peak == pytest.approx(100)
    assert not poisson.linear


def noise_of(**model: object):
    return from_deepinv(SimpleNamespace(A=lambda x: x, noise_model=SimpleNamespace(**model)), (3, 4, 4)).noise


def test_noise_that_is_both_or_none_of_ours():
    assert noise_of(sigma=0.5, gain=0.25) == Poisson(4.0) + Gaussian(0.5)
    assert noise_of(sigma=torch.tensor([0.5, 0.5])) == Gaussian(0.5)
    with pytest.raises(TypeError, match=r"must have one sigma for all images, got \[0\.25, 0\.5\]"):
        noise_of(sigma=torch.tensor([0.5, 0.25]))
    with pytest.raises(TypeError, match="counts photons; give it normalize=True"):
        noise_of(gain=0.25, normalize=torch.tensor(False))
    NoiseModel = type("NoiseModel", (), {})  # a composition of noises, in theirs
    with pytest.raises(TypeError, match="must be Gaussian, Poisson, both or none, got NoiseModel"):
        from_deepinv(SimpleNamespace(A=lambda x: x, noise_model=NoiseModel()), (3, 4, 4))


def test_physics_is_asked_on_its_own_device():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("factor", torch.ones(2, device="meta"))

        def A(self, x):
            return x * self.factor[0]

    assert from_deepinv(Scaled(), (3, 4, 4)).codomain == (3, 4, 4)


def test_our_noise_becomes_theirs():
    physics = pytest.importorskip("deepinv", reason="needs the extra 'bench'").physics
    for noise, name in ((Poisson(50.0), "PoissonNoise"), (Gaussian(0.1) + Poisson(50.0), "PoissonGaussianNoise")):
        model = to_deepinv(Blur.gaussian(1.0, noise=noise), (3, 16, 16)).noise_model
        assert isinstance(model, getattr(physics, name))
        assert model.clip_positive
        assert float(model.gain) == pytest.approx(0.02)


def test_real_physics_becomes_ours():
    physics = pytest.importorskip("deepinv", reason="needs the extra 'bench'").physics
    kernel = torch.rand(1, 1, 5, 5)
    theirs = physics.BlurFFT((3, 16, 16), kernel / kernel.sum(), noise_model=physics.GaussianNoise(0.02))
    A = from_deepinv(theirs, (3, 16, 16))
    assert A.noise.sigma == pytest.approx(0.02)
    assert A.adjointness() < 1e-5
    torch.testing.assert_close(A(X), theirs.A(X))
    x0 = from_deepinv(physics.Inpainting((3, 16, 16), mask=0.5), (3, 16, 16))
    assert x0.noise == Noiseless()


@pytest.mark.parametrize("A", [Downsample.bicubic(4, noise=Gaussian(0.1)), Blur.gaussian(1.0, "circular")], ids=repr)
def test_ours_becomes_real_physics(A):
    pytest.importorskip("deepinv", reason="needs the extra 'bench'")
    theirs = to_deepinv(A, (3, 16, 16))
    y = theirs.A(X)
    torch.testing.assert_close(y, A(X))
    torch.testing.assert_close(theirs.A_adjoint(y), A.adjoint(y))
    torch.testing.assert_close(theirs.prox_l2(X, y, gamma=4.0), A.prox(X, y, 0.25))
    torch.testing.assert_close(theirs.A_dagger(y), A.pinv(y))
    assert (float(theirs(X).sub(y).std()) > 0.05) == isinstance(A.noise, Gaussian)
    assert theirs.adjointness_test(X).abs() < 1e-2


def test_our_nonlinear_operator_becomes_real_physics():
    pytest.importorskip("deepinv", reason="needs the extra 'bench'")
    A = Overexpose(2.0, shape=(3, 16, 16))
    torch.testing.assert_close(to_deepinv(A).A(X), A(X))
