"""Operators described in YAML."""

import json

import numpy as np
import pytest
import torch

from posterior import recipes
from posterior.images import read
from tests.posterior.stub import assert_one_error_line, noisy, run, save

pytestmark = pytest.mark.usefixtures("stub_prior")


SOLVE = """
operator:
  - {class_path: Blur.gaussian, init_args: {sigma: 1.0}}
  - {class_path: inverse.operators.Downsample.area, init_args: {factor: 2}}
noise: {class_path: Gaussian, init_args: {sigma: 0.05}}
"""


def test_solve_composes_operators(tmp_path):
    save(tmp_path / "y.png", noisy((8, 10), noise=0.0)[1])
    (tmp_path / "op.yaml").write_text(SOLVE)
    result = run("solve", tmp_path / "y.png", tmp_path / "x.png", "--operator", tmp_path / "op.yaml", "--json", "--steps", 20)
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "x.png").size == (16, 20)
    assert json.loads(result.stdout)["results"][0]["residual_ratio"] < 3


def test_recipe_means_what_the_classes_mean(tmp_path):
    from inverse.operators import Blur, Downsample

    (tmp_path / "op.yaml").write_text(SOLVE)
    A = recipes.read(tmp_path / "op.yaml").build((3, 8, 10))
    x = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(A(x), Downsample.area(2)(Blur.gaussian(1.0)(x)))
    assert A.noise.sigma == 0.05


def test_recipe_with_a_shape_and_an_image(tmp_path):
    save(tmp_path / "k.png", np.ones((3, 3, 1)))
    (tmp_path / "op.yaml").write_text("operator: {class_path: Blur, init_args: {kernel: {image: k.png}}}")
    blur = recipes.read(tmp_path / "op.yaml").build((3, 8, 10))
    assert blur(torch.ones(1, 3, 8, 8)).mean() == pytest.approx(9)
    (tmp_path / "op.yaml").write_text("operator: {class_path: Inpaint.random, init_args: {missing: 0.25, seed: 3}}")
    assert recipes.read(tmp_path / "op.yaml").build((3, 8, 10)).domain == (3, 8, 10)
    (tmp_path / "op.yaml").write_text("operator: {class_path: Grayscale, init_args: {weights: [0.5, 0.25, 0.25]}}")
    grey = recipes.read(tmp_path / "op.yaml").build((3, 8, 10))
    assert grey(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)).item() == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not a YAML file"),
        ("[]", "must have the key operator"),
        ("operator: []", "must not be an empty list"),
        ("{operator: {class_path: Identity}, extra: 1}", "got operator, extra"),
        ("operator: {class_path: Identity, args: {}}", "an entry must have class_path"),
        ("operator: {class_path: os.system}", "class_path must be an operator, one of "),
        ("operator: {class_path: Operator}", "class_path must be an operator, one of "),
        ("operator: {class_path: Blur.__init__}", "Blur has the named constructors gaussian, line, motion"),
        ("operator: {class_path: Blur.load_state_dict}", "Blur has the named constructors gaussian, line, motion"),
        (
            "operator: {class_path: Blur.gaussian, init_args: {sigma: 1, width: 3}}",
            "has no 'width'; allowed are sigma, boundary, shape",
        ),
        ("operator: {class_path: Blur.gaussian}", "needs sigma"),
        ("operator: {class_path: Blur.gaussian, init_args: {sigma: wide}}", "cannot take {'sigma': 'wide'}"),
        ("operator: {class_path: Blur.gaussian, init_args: {sigma: -1}}", "sigma must be positive"),
        ("operator: {class_path: Blur.gaussian, init_args: [1]}", "init_args must be a mapping"),
        ("operator: {class_path: Blur, init_args: {kernel: {file: k.png}}}", "{image: FILE} or {tensor: ...}"),
        ("operator: {class_path: Identity}\nnoise: {class_path: Noise}", "class_path must be a noise, one of Gaussian"),
        ("operator: !!python/object/apply:os.system [ls]", "not a YAML file"),
        ("operator: {class_path: Grayscale}", "y must have one channel"),
    ],
)
def test_bad_recipes(tmp_path, text, message):
    save(tmp_path / "y.png", noisy((8, 8))[1])
    (tmp_path / "op.yaml").write_text(text)
    result = run("solve", tmp_path / "y.png", tmp_path / "x.png", "--operator", tmp_path / "op.yaml")
    assert_one_error_line(result, message)
    assert not (tmp_path / "x.png").exists()
