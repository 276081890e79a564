r"""A denoiser of grey images from one of colour photographs: the same function, to begin training from.

A grey image shown as three equal colours carries its noise in all of them alike. Their mean, which is all that a denoiser of
independent noise can use, then has the noise of three colours that carry sqrt(3) as much. With ``D`` the colour denoiser,
``D_grey(x; sigma) = mean_c D((x, x, x); sqrt(3) sigma)_c``.

For an :class:`~prior.denoiser.EDMHead` this is again one: ``c_skip`` at sqrt(3) sigma is that of ``sigma_data / sqrt(3)`` at
sigma, and ``c_in`` and ``c_out`` differ by the factor alone, which the first and the last convolution take over. The shift of
log sigma turns the sinusoids of the embedding, which its first layer takes over.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from prior.denoiser import Denoiser, EDMHead
from prior.networks.residual_unet import ResidualUNet
from prior.registry import cards, load

__all__ = ["grey", "grey_from"]

GAIN = math.sqrt(3)


def grey_from(name: str, data_range: tuple[float, float] = (-1.0, 1.0)) -> Denoiser:
    """:func:`grey` of the shipped weights ``name``, ready to be trained on; ``data_range`` is that of the new images."""
    return grey(load(name), cards()[name].denoiser["init_args"]["network"]["init_args"], data_range)


def grey(model: Denoiser, network: dict[str, object], data_range: tuple[float, float] = (-1.0, 1.0)) -> Denoiser:
    """The denoiser of one channel that equals ``model`` on three equal colours of sqrt(3) times the noise.

    Parameters
    ----------
    model: a ResidualUNet of three channels behind an EDMHead.
    network: the arguments that its network was built with.
    data_range: the values that black and white of the new images take inside the network.
    """
    source, head = model.network, model.head
    if not isinstance(source, ResidualUNet) or not isinstance(head, EDMHead) or source.in_channels != 3:
        raise TypeError(f"model must be a ResidualUNet of 3 channels behind an EDMHead, got {type(source).__name__}, {head!r}")
    target = ResidualUNet(**{**network, "in_channels": 1})  # type: ignore[arg-type]
    state = {key: value.clone() for key, value in source.state_dict().items()}
    area = source.unshuffle**2
    state["head.weight"] = state["head.weight"].unflatten(1, (3, area)).sum(1) / GAIN
    for key in ("tail.weight", "tail.bias"):
        state[key] = state[key].unflatten(0, (3, area)).mean(0) * GAIN
    state["embed.0.weight"] = state["embed.0.weight"] @ _shift(source.embedding_width, 250 * math.log(GAIN) / 4)
    target.load_state_dict(state)
    return Denoiser(target, model.schedule, EDMHead(head.sigma_data / GAIN), data_range=data_range)


def _shift(width: int, amount: float) -> Tensor:
    """The matrix that takes the embedding of a time to that of the time plus ``amount``; both are sines and cosines."""
    from prior.networks.embedding import sinusoidal_embedding

    turned = sinusoidal_embedding(torch.tensor([amount], dtype=torch.float64), width)[0]
    cos, sin = turned[: width // 2], turned[width // 2 :]
    c, s = torch.diag(cos), torch.diag(sin)
    return torch.cat([torch.cat([c, -s], 1), torch.cat([s, c], 1)]).float()
