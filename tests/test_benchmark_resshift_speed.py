"""The plain reading of ResShift's official loop, and the comparison with it, on tiny networks."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from benchmarks import resshift_speed
from benchmarks.resshift_speed import compare, plain_restoration, random_restorer
from prior.networks import VQAutoencoderConfig
from prior.randomness import MemberNoise
from prior.schedules import Shifted
from restore.resshift import ResShift, ShiftedDenoiser, SwinUNetConfig
from restore.resshift.loading import prepared
from restore.resshift.swin_blocks import SwinBlock

UNET = SwinUNetConfig(
    image_size=16, model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(16, 8),
    num_head_channels=16, swin_embed_dim=32, window_size=4, mlp_ratio=1, lq_size=16,
)  # fmt: skip
VQ = VQAutoencoderConfig(ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, n_embed=64)


def tiny():
    return random_restorer(UNET, VQ)


def picture(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def draws(model, image, seed=3):
    source, latents = MemberNoise(seed, len(image)), image.new_empty(len(image), 3, *image.shape[2:])
    return [source(latents) for _ in range(model.model.schedule.T + 1)]


def ours(model, image, seed=3):
    return model(2 * image - 1, noise=MemberNoise(seed, len(image))) * 0.5 + 0.5


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (2, 3, 16, 24)])
@pytest.mark.parametrize("stored", [False, True])
def test_the_plain_reading_is_our_sampler(shape, stored):
    model, image = tiny(), picture(*shape)
    plain = plain_restoration(model, image, draws(model, image), stored_scores=stored)
    assert plain.shape == (shape[0], 3, 4 * shape[2], 4 * shape[3])
    assert float(plain.std()) > 0.05  # the picture is none of zeros
    torch.testing.assert_close(ours(model, image), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mask", ["official", "textbook"])
def test_the_network_without_a_quantiser_after_it(mask):
    model = random_restorer(replace(UNET, mask=mask), VQ)
    network, generator = model.model.network, torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    x, lq, t = picture(2, 3, 24, 16), picture(2, 3, 24, 16), torch.tensor([3, 0])
    wanted = network(x, t, lq)
    torch.testing.assert_close(resshift_speed._unet(network, x, t, lq), wanted, atol=1e-5, rtol=1e-5)
    for block in (m for m in network.modules() if isinstance(m, SwinBlock)):
        block.mask = "textbook" if mask == "official" else "official"  # what the plain reading goes by
    assert float((resshift_speed._unet(network, x, t, lq) - wanted).abs().max()) > 1e-3


def test_other_noise_is_another_picture():
    model, image = tiny(), picture(1, 3, 16, 16)
    a, b = (plain_restoration(model, image, draws(model, image, seed)) for seed in (3, 4))
    assert float((a - b).abs().max()) > 1e-3


def test_random_weights_have_a_seed_and_no_zeros():
    a, b, c = tiny().state_dict(), tiny().state_dict(), random_restorer(UNET, VQ, seed=1).state_dict()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    name = "model.network.out.2.weight"
    assert not torch.equal(a[name], c[name])
    assert all(bool(value.any()) for key, value in a.items() if key.endswith("weight"))
    assert tiny().multiple == 8


def test_codes_keep_their_precision():
    model = tiny()
    half = prepared(copy.deepcopy(model), dtype=torch.bfloat16, channels_last=True, compile=False)
    assert half.first_stage.quantize.embedding.weight.dtype == torch.float32
    kernel = half.model.network.out[2].weight
    assert kernel.dtype == torch.bfloat16
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_compare_says_what_both_take():
    model, image = tiny(), picture(1, 3, 16, 16)
    ours = prepared(copy.deepcopy(model), dtype=torch.float32, channels_last=False, compile=False)
    plain, fast = compare(model, ours, image, repeats=1, warmup=0)
    assert (plain.name, fast.name, plain.psnr) == ("plain", "ours", None)
    assert fast.psnr > 90
    assert min(plain.seconds, fast.seconds) > 0
    assert plain.weights_mebibytes == pytest.approx(fast.weights_mebibytes)


def test_half_precision_is_close_but_not_equal():
    model, image = tiny(), picture(1, 3, 16, 16)
    half = prepared(copy.deepcopy(model), dtype=torch.bfloat16, channels_last=True, compile=False)
    plain, fast = compare(model, half, image, repeats=1, warmup=0)
    assert 25 < fast.psnr < 80
    assert fast.weights_mebibytes < 0.6 * plain.weights_mebibytes


def test_memory_is_counted_from_here():
    held = resshift_speed._Memory(torch.device("cpu"))
    block = torch.ones(2**25)  # 128 MiB
    assert 120 < held.taken() < 200
    del block
    assert resshift_speed._Memory(torch.device("cpu")).taken() < 100


def test_the_command(tmp_path, capsys):
    path = tmp_path / "speed.json"
    resshift_speed.main(["--side", "16", "--repeats", "1", "--warmup", "0", "--json", str(path)], model=tiny())
    record = json.loads(path.read_text())
    assert [t["name"] for t in record["timings"]] == ["plain", "ours"]
    assert record["ratio"] == pytest.approx(record["timings"][0]["seconds"] / record["timings"][1]["seconds"])
    assert (record["side"], record["dtype"], record["device"]) == (16, "float32", "cpu")
    assert "times as fast, side 16, float32" in capsys.readouterr().out


@pytest.mark.parametrize(("wrong", "said"), [(["--side", "20"], "multiple of 8, got 20"), (["--repeats", "0"], "at least 1")])
def test_bad_arguments(wrong, said, capsys):
    with pytest.raises(SystemExit):
        resshift_speed.main(["--side", "16", *wrong], model=tiny())
    assert said in capsys.readouterr().err


def test_networks_that_the_plain_reading_does_not_know():
    model = ResShift(ShiftedDenoiser(torch.nn.Identity(), Shifted()), None, factor=4)
    with pytest.raises(TypeError, match="model must have a SwinUNet and a VQAutoencoder"):
        plain_restoration(model, picture(1, 3, 8, 8), [])
