"""Released models of few channels, and files of theirs in the official layout."""

import torch

from prior.networks import VQAutoencoder, VQAutoencoderConfig
from restore.resshift import ReleasedResShift, SwinUNet, SwinUNetConfig

SMALL = {
    "image_size": 16,
    "model_channels": 32,
    "channel_mult": (1, 1),
    "num_res_blocks": 1,
    "attention_resolutions": (16,),
    "num_head_channels": 16,
    "swin_embed_dim": 32,
    "window_size": 4,
    "mlp_ratio": 1,
}
VQ = VQAutoencoderConfig(ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, n_embed=64)  # f = 4
SR = SwinUNetConfig(**SMALL, lq_size=16)
INPAINT = SwinUNetConfig(**SMALL, lq_size=64, cond_mask=True)
DEBLUR = SwinUNetConfig(**SMALL, lq_size=64)

RELEASED = (
    ReleasedResShift(name="realsr_v2", files=("v2.pth",), unet=SR, autoencoder=VQ, scale=4, steps=15, min_noise_level=0.04),
    ReleasedResShift(name="realsr_v3", files=("v3.pth",), unet=SR, autoencoder=VQ, scale=4),
    ReleasedResShift(name="inpaint_imagenet", files=("hole.pth", "holes.pth"), unet=INPAINT, autoencoder=VQ),
    ReleasedResShift(name="deblur", files=("deblur.pth",), unet=DEBLUR, autoencoder=VQ),
    ReleasedResShift(name="faceir", files=("face.pth",), unet=DEBLUR, autoencoder=VQ, autoencoder_file="face_vq.pth"),
)


def weights_of(network, seed=0):
    """Weights of which none is zero, small enough that images stay images; buffers as they are."""
    drawn = {}
    for i, (name, p) in enumerate(network.named_parameters()):
        noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed + i))
        drawn[name] = noise / max(p[0].numel(), 1) ** 0.5 if p.ndim > 1 else p.detach() + 0.1 * noise
    return {**network.state_dict(), **drawn}


def save_files(folder):
    """All files under their released names in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    vq = weights_of(VQAutoencoder(VQ), seed=1000)
    for entry in RELEASED:
        torch.save({"state_dict": weights_of(SwinUNet(entry.unet))}, folder / entry.files[0])
        torch.save(vq, folder / entry.autoencoder_file)
    return folder


class Enlarges(torch.nn.Module):
    """A network in pixel space that knows the answer: the bicubically enlarged image that it sees."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x, t, lq):
        return self.weight * lq
