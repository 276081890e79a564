"""Official ADM configurations, as their JSON has them, in this library's terms; shared by the parity modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from prior.networks.adm import ADMConfig
from prior.networks.adm_configuration import ADMModel
from tests.parity.cases import Case

__all__ = ["check_network", "model_of_factory", "model_of_module"]

KINDS = {"UNetModel": "unet", "SuperResModel": "superres", "EncoderUNetModel": "classifier"}
RENAMED = {
    "attention_resolutions": "attention_ds",
    "num_head_channels": "head_channels",
    "use_scale_shift_norm": "scale_shift",
    "resblock_updown": "updown",
    "use_new_attention_order": "new_attention_order",
}
MULT = {512: (0.5, 1, 1, 2, 2, 4, 4), 256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4)}
MULT_SUPERRES = MULT | {512: (1, 1, 2, 2, 4, 4)}


def model_of_module(official: Mapping[str, Any]) -> ADMModel:
    """The network of a module's constructor arguments; ``cls`` names the class, UNetModel where it is absent."""
    settings = dict(official)
    kind = KINDS[settings.pop("cls", "UNetModel")]
    image_size, pool = settings.pop("image_size"), settings.pop("pool", None)
    settings = {RENAMED.get(key, key): value for key, value in settings.items()}
    settings |= {key: None for key in ("head_channels", "num_heads_upsample") if settings.get(key, -1) == -1}
    if kind == "classifier":
        settings = {"num_heads": 1, "scale_shift": False, "updown": False} | settings
    return ADMModel(kind=kind, config=ADMConfig(**settings), pool=pool, image_size=image_size if pool else None)


def model_of_factory(factory: str, official: Mapping[str, Any]) -> ADMModel:
    """The network of a factory's flags, in which attention is told in pixels and multipliers follow from the size."""
    flags = {key.removeprefix("classifier_"): value for key, value in official.items()}
    size = flags.get("large_size") or flags["image_size"]
    kind = {"create_model": "unet", "sr_create_model": "superres", "create_classifier": "classifier"}[factory]
    mult = flags.get("channel_mult") or (MULT_SUPERRES if kind == "superres" else MULT)[size]
    if isinstance(mult, str):
        mult = tuple(float(m) for m in mult.split(","))
    head_channels, up = (flags.get(key, -1) for key in ("num_head_channels", "num_heads_upsample"))
    config = ADMConfig(
        out_channels=1000 if kind == "classifier" else 3 * (1 + flags["learn_sigma"]),
        model_channels=flags["width"] if kind == "classifier" else flags["num_channels"],
        channel_mult=mult,
        num_res_blocks=flags["depth"] if kind == "classifier" else flags["num_res_blocks"],
        attention_ds=tuple(size // int(pixels) for pixels in flags["attention_resolutions"].split(",")),
        num_heads=flags.get("num_heads", 1),
        head_channels=64 if kind == "classifier" else None if head_channels == -1 else head_channels,
        num_heads_upsample=None if up == -1 else up,
        scale_shift=flags["use_scale_shift_norm"],
        updown=flags["resblock_updown"],
        new_attention_order=flags.get("use_new_attention_order", False),
        num_classes=1000 if flags.get("class_cond") else None,
        dropout=flags.get("dropout", 0.0),
    )
    pool = flags.get("pool")
    return ADMModel(kind=kind, config=config, pool=pool, image_size=size if pool else None)


def check_network(case: Case) -> None:
    """Holds a network against its case: keys, embedding, activations of the blocks, output and input gradient."""
    model = model_of_module(case.meta["config"])
    network = model.build().eval()
    weights = case.state_dict()
    network.load_state_dict(weights, strict=True)
    assert {key: tuple(t.shape) for key, t in network.state_dict().items()} == {
        key: tuple(shape) for key, shape in case.meta["state_dict"]
    }
    activations = {}
    for name in case.under("act/"):
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: activations.update({name: output.detach()[:1]})
        )
    x = case["x"].clone().requires_grad_()
    conditions = [case[key] for key in ("low_res", "y") if key in case]
    out = network(x, case["t"], *conditions)
    (out * case["cotangent"]).sum().backward()
    close = torch.testing.assert_close
    close(network.embed(case["t"]), case["emb"], rtol=0, atol=2e-5)
    close(out, case["out"], rtol=0, atol=2e-5)
    # float32 convolutions: another backend alone moves the gradients of the U-Nets by 2.4e-4
    close(x.grad, case["grad_x"], rtol=0, atol=1e-6 if model.kind == "classifier" else 5e-4)
    for name, expected in case.under("act/").items():
        close(activations[name], expected, rtol=0, atol=2e-5, msg=lambda m, name=name: f"{name}: {m}")
