"""Four steps of ResShift x4 with networks of the official size: this package beside a plain reading of the official loop.

    python -m benchmarks.resshift_speed [--device cpu|cuda] [--side 256] [--dtype float32|bfloat16|float16] [--compile]
        [--channels-last] [--repeats 3] [--warmup 1] [--stored-scores] [--json FILE]

Swin U-Net and VQ-f4 with random weights, the same in both, and the same noise. The plain reading is written below from the
formulas, as the published code goes: eager float32, windows cut out of the map one by one with their mask, softmax attention
within them, the distances of all latents to all codes at once. Attention in the first stage is PyTorch's fused one, which
stands for xformers; ``--stored-scores`` keeps all scores as the published code does without it (at side 256 they are 17 GiB).
Its noise lies ready on the device. TensorFloat-32 is as PyTorch has it by default. ``--dtype``, ``--compile`` and
``--channels-last`` are of this package alone. Calls take turns, times are medians; memory is what a call takes beside the
weights. PSNR is of the picture in [0, 1], not rounded, to that of the plain reading.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import machine
from inverse.metrics import psnr
from prior.networks.adm_blocks import ResBlock, Upsample
from prior.networks.vq_autoencoder import Level, VQAutoencoder, VQAutoencoderConfig
from prior.networks.vq_blocks import Attention, Middle, ResnetBlock
from prior.randomness import MemberNoise
from prior.schedules import Shifted
from restore.resshift import ResShift, ShiftedDenoiser, SwinUNet, SwinUNetConfig
from restore.resshift.loading import prepared
from restore.resshift.swin_blocks import SwinBlock, SwinLayer
from restore.resshift.swin_layers import WindowAttention, shift_mask

__all__ = ["Timing", "compare", "plain_restoration", "random_restorer"]

CODES = 0.5  # standard deviation of the random codes: about that of the latents a random network makes
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One of the two: median seconds of a call, MiB that it takes beside the weights, PSNR in dB to the plain reading.

    No PSNR of the plain reading itself; equal pictures have an infinite one.
    """

    name: str
    seconds: float
    mebibytes: float
    weights_mebibytes: float
    psnr: float | None


def random_restorer(
    unet: SwinUNetConfig | None = None, autoencoder: VQAutoencoderConfig | None = None, *, seed: int = SEED
) -> ResShift:
    """A four-step restorer with random weights, of the official size by default; convolutions that begin at 0 do not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, first_stage = SwinUNet(unet or SwinUNetConfig()), VQAutoencoder(autoencoder or VQAutoencoderConfig())
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and not bool(module.weight.any()):
                module.reset_parameters()
        nn.init.normal_(first_stage.quantize.embedding.weight, std=CODES)
    multiple = network.config.multiple * first_stage.factor // 4
    model = ResShift(ShiftedDenoiser(network, Shifted(T=4)), first_stage, factor=4, multiple=multiple)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def plain_restoration(model: ResShift, image: Tensor, noise: Sequence[Tensor], *, stored_scores: bool = False) -> Tensor:
    """``image`` (B, 3, h, w) in [0, 1], restored and four times larger, with T + 1 draws of noise; the weights of ``model``.

    z = Enc(bicubic(y)),   x = z + kappa sqrt(eta_{T-1}) n_0
    x0 = net(x / sqrt(eta_t kappa^2 + 1), t, y),   x = c1_t x + c2_t x0 + [t > 0] sigma_t n_{T-t},   t = T-1..0
    result = clamp(Dec(x), -1, 1) / 2 + 1/2
    """
    network, first_stage, schedule = model.model.network, model.first_stage, model.model.schedule
    if not isinstance(network, SwinUNet) or not isinstance(first_stage, VQAutoencoder):
        raise TypeError(f"model must have a SwinUNet and a VQAutoencoder, got {type(network)} and {type(first_stage)}")
    T, kappa, eta = schedule.T, schedule.kappa, schedule.sqrt_eta**2
    eta_prev = torch.cat([eta.new_zeros(1), eta[:-1]])
    variance = kappa**2 * eta_prev / eta * (eta - eta_prev)
    tables = {"eta": eta, "c1": eta_prev / eta, "c2": (eta - eta_prev) / eta, "sigma": variance.sqrt()}

    y = 2 * image - 1
    x = _encoded(first_stage, F.interpolate(y, scale_factor=4, mode="bicubic"), stored_scores)
    x = x + kappa * eta[-1].sqrt().to(x) * noise[0]
    for step in reversed(range(T)):
        t = torch.full((len(x),), step, device=x.device)
        at = {name: table.to(x.device)[t].float().view(-1, 1, 1, 1) for name, table in tables.items()}
        x0 = _unet(network, x / torch.sqrt(at["eta"] * kappa**2 + 1), t, y)
        x = at["c1"] * x + at["c2"] * x0 + (step > 0) * at["sigma"] * noise[T - step]
    return _decoded(first_stage, x, stored_scores).clamp(-1, 1) * 0.5 + 0.5


def _unet(network: SwinUNet, x: Tensor, t: Tensor, lq: Tensor) -> Tensor:
    half = network.config.model_channels // 2
    frequency = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(half) / half).to(x)
    angle = t[:, None].float() * frequency
    embedding = network.time_embed(torch.cat([angle.cos(), angle.sin()], 1))
    h, skips = torch.cat([x, network.feature_extractor(lq)], 1), []
    for stage in network.input_blocks:
        h = _stage(stage, h, embedding)
        skips.append(h)
    h = _stage(network.middle_block, h, embedding)
    for stage in network.output_blocks:
        h = _stage(stage, torch.cat([h, skips.pop()], 1), embedding)
    return torch.as_tensor(network.out(h))


def _stage(layers: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    for layer in layers.children():
        if isinstance(layer, ResBlock):
            h = _residual(layer, h, embedding)
        elif isinstance(layer, SwinLayer):
            h = layer.patch_embed(h)
            for block in layer.blocks:
                h = _swin(block, h)  # type: ignore[arg-type]
            h = layer.patch_unembed(h)
        else:
            h = _enlarged(layer, h) if isinstance(layer, Upsample) else layer(h)
    return h


def _enlarged(layer: Upsample, x: Tensor) -> Tensor:
    return torch.as_tensor(layer.conv(F.interpolate(x, scale_factor=2, mode="nearest")))


def _residual(block: ResBlock, x: Tensor, embedding: Tensor) -> Tensor:
    h = block.in_layers(x)
    scale, shift = block.emb_layers(embedding)[:, :, None, None].chunk(2, 1)
    h = block.out_layers[0](h) * (1 + scale) + shift
    return torch.as_tensor(block.skip_connection(x) + block.out_layers[1:](h))


def _swin(block: SwinBlock, x: Tensor) -> Tensor:
    w, s = block.window, block.shift
    B, C, H, W = x.shape
    h = block.norm1(x).permute(0, 2, 3, 1)
    if s:
        h = torch.roll(h, (-s, -s), (1, 2))
    windows = h.reshape(B, H // w, w, W // w, w, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, C)
    mask = _mask(H // w, W // w, w, s, block.mask, x.device) if s else None
    windows = _window_attention(block.attn, windows, mask)
    h = windows.view(B, H // w, W // w, w, w, C).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)
    if s:
        h = torch.roll(h, (s, s), (1, 2))
    x = x + h.permute(0, 3, 1, 2)
    return x + block.mlp(block.norm2(x))


@lru_cache
def _mask(rows: int, cols: int, window: int, shift: int, kind: str, device: torch.device) -> Tensor:
    return shift_mask(rows, cols, window, shift=shift, mask=kind).to(device)


def _window_attention(attn: WindowAttention, x: Tensor, mask: Tensor | None) -> Tensor:
    """Of windows (n, N, C), with the mask (windows of an image, N, N)."""
    n, N, C = x.shape
    q, k, v = attn.qkv(x).view(n, N, 3, attn.heads, C // attn.heads).permute(2, 0, 3, 1, 4)
    bias = attn.relative_position_bias_table[attn.relative_position_index].permute(2, 0, 1)
    scores = (q * (C // attn.heads) ** -0.5) @ k.mT + bias
    if mask is not None:
        scores = (scores.view(-1, len(mask), attn.heads, N, N) + mask[None, :, None]).view(n, attn.heads, N, N)
    return torch.as_tensor(attn.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, N, C)))


def _encoded(first_stage: VQAutoencoder, x: Tensor, stored_scores: bool) -> Tensor:
    encoder = first_stage.encoder
    h = encoder.conv_in(x)
    for level in encoder.down:
        h = _level(level, h)  # type: ignore[arg-type]
    h = _middle(encoder.mid, h, stored_scores)
    return torch.as_tensor(first_stage.quant_conv(encoder.conv_out(F.silu(encoder.norm_out(h)))))


def _decoded(first_stage: VQAutoencoder, z: Tensor, stored_scores: bool) -> Tensor:
    codes, decoder = first_stage.quantize.embedding.weight, first_stage.decoder
    pixels = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    distances = pixels.square().sum(1, keepdim=True) + codes.square().sum(1) - 2 * pixels @ codes.mT
    z = codes[distances.argmin(1)].view(len(z), *z.shape[2:], -1).permute(0, 3, 1, 2)
    h = _middle(decoder.mid, decoder.conv_in(first_stage.post_quant_conv(z)), stored_scores)
    for level in reversed(decoder.up):
        h = _level(level, h)  # type: ignore[arg-type]
    return torch.as_tensor(decoder.conv_out(F.silu(decoder.norm_out(h))))


def _level(level: Level, h: Tensor) -> Tensor:
    for block in level.block:
        h = _block(block, h)  # type: ignore[arg-type]
    h = level.downsample(h)
    return _enlarged(level.upsample, h) if isinstance(level.upsample, Upsample) else h


def _block(block: ResnetBlock, x: Tensor) -> Tensor:
    h = block.conv1(F.silu(block.norm1(x)))
    return torch.as_tensor(block.nin_shortcut(x) + block.conv2(F.silu(block.norm2(h))))


def _middle(middle: Middle, h: Tensor, stored_scores: bool) -> Tensor:
    return _block(middle.block_2, _attention(middle.attn_1, _block(middle.block_1, h), stored_scores))


def _attention(layer: Attention, x: Tensor, stored_scores: bool) -> Tensor:
    h = layer.norm(x)
    q, k, v = (project(h).flatten(2).mT.contiguous() for project in (layer.q, layer.k, layer.v))
    if stored_scores:
        out = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
    else:
        out = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
    return torch.as_tensor(x + layer.proj_out(out.mT.reshape(x.shape)))


def compare(
    model: ResShift, ours: ResShift, image: Tensor, *, repeats: int, warmup: int, stored_scores: bool = False
) -> list[Timing]:
    """The plain reading with ``model`` and this package with ``ours``, on ``image`` (1, 3, h, w) in [0, 1]."""
    latents = image.new_empty(1, model.first_stage.config.embed_dim, *image.shape[2:])  # type: ignore[union-attr]
    source = MemberNoise(SEED, 1)
    noise = [source(latents) for _ in range(model.model.schedule.T + 1)]
    calls: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        "plain": (model, lambda: plain_restoration(model, image, noise, stored_scores=stored_scores)),
        "ours": (ours, lambda: ours(2 * image - 1, noise=MemberNoise(SEED, 1)) * 0.5 + 0.5),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    memory, pictures = dict.fromkeys(calls, 0.0), {}
    for turn in range(warmup + repeats):
        for name, (_, call) in calls.items():
            held = _Memory(image.device)
            began = time.perf_counter()
            pictures[name] = call()
            if image.is_cuda:
                torch.cuda.synchronize()
            if turn >= warmup:
                times[name].append(time.perf_counter() - began)
                memory[name] = max(memory[name], held.taken())
    return [
        Timing(
            name=name, seconds=sorted(times[name])[repeats // 2], mebibytes=memory[name], weights_mebibytes=_size(module),
            psnr=None if name == "plain" else float(psnr(pictures[name].float(), pictures["plain"])),
        )
        for name, (module, _) in calls.items()
    ]  # fmt: skip


def _size(module: nn.Module) -> float:
    return sum(p.numel() * p.element_size() for p in module.parameters()) / 2**20


class _Memory:
    """What is taken from here on at most: of the process' memory, or of what torch allocates on the GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device) / 2**20
            return
        with suppress(OSError):  # the kernel then counts anew; elsewhere the figure counts from the process' beginning
            Path("/proc/self/clear_refs").write_text("5")
        self.before = self._peak()

    def taken(self) -> float:
        """In MiB."""
        return self._peak() - self.before

    def _peak(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _picture(side: int) -> Tensor:
    """A smooth random picture (1, 3, side, side) in [0, 1]."""
    coarse = torch.rand(1, 3, max(2, side // 8), max(2, side // 8), generator=torch.Generator().manual_seed(SEED))
    return F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=256, help="of the small picture")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1, help="calls that do not count")
    parser.add_argument("--stored-scores", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser


def main(arguments: Sequence[str] | None = None, *, model: ResShift | None = None) -> None:
    """Measure, print and, if asked, write JSON; with a ``model`` of another size than the official one."""
    parser = _parser()
    args = parser.parse_args(arguments)
    model = (random_restorer() if model is None else model).to(args.device)
    if args.side < 1 or args.side % model.multiple:
        parser.error(f"--side must be a multiple of {model.multiple}, got {args.side}")
    if args.repeats < 1 or args.warmup < 0:
        parser.error(f"--repeats must be at least 1 and --warmup 0, got {args.repeats} and {args.warmup}")
    changes = {"dtype": getattr(torch, args.dtype), "channels_last": args.channels_last, "compile": args.compile}
    ours = prepared(copy.deepcopy(model), **changes)
    image = _picture(args.side).to(args.device)
    found = compare(model, ours, image, repeats=args.repeats, warmup=args.warmup, stored_scores=args.stored_scores)
    for t in found:
        memory = f"{t.mebibytes:.0f} MiB beside {t.weights_mebibytes:.0f} of weights"
        print(f"{t.name}: {t.seconds:.3f} s, {memory}" + ("" if t.psnr is None else f", PSNR to plain {t.psnr:.1f} dB"))
    plain, fast = found
    ratio = plain.seconds / fast.seconds
    device = torch.cuda.get_device_name() if args.device.startswith("cuda") else "cpu"
    print(f"{ratio:.2f} times as fast, side {args.side}, {args.dtype}; {machine()}; {device}")
    if args.json is not None:
        settings = {k: v for k, v in vars(args).items() if k not in ("json", "device")}
        record = {"machine": machine(), "device": device, **settings, "ratio": ratio, "timings": [asdict(t) for t in found]}
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
