"""The networks, as plain modules: they know channels, labels and a number for the time, and no diffusion."""

from __future__ import annotations

from sfumato.networks.autoencoder import ConvAutoencoder
from sfumato.networks.backbone import Backbone, Embedded
from sfumato.networks.classifier import Encoder
from sfumato.networks.control import Control
from sfumato.networks.dit import DiT
from sfumato.networks.dpm2015 import DPMBits, DPMImage, DPMLocal, DPMRadial
from sfumato.networks.jit import JiT
from sfumato.networks.lucidrains_karras import LucidrainsKarras
from sfumato.networks.lucidrains_unet import LucidrainsUNet
from sfumato.networks.mp_unet import MPUNet
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp, SongUNet
from sfumato.networks.refinenet import RefineNet, RefineNetV2
from sfumato.networks.unet import ADMUNet, HoUNet, ImprovedUNet
from sfumato.networks.unet2d import UNet2D
from sfumato.networks.uvit import UViT

NETWORKS: dict[str, type[Backbone]] = {
    "ddpm-unet": HoUNet,
    "improved-unet": ImprovedUNet,
    "adm-unet": ADMUNet,
    "unet2d": UNet2D,
    "lucidrains-unet": LucidrainsUNet,
    "lucidrains-karras": LucidrainsKarras,
    "ncsnpp": NCSNpp,
    "ddpmpp": DDPMpp,
    "song-unet": SongUNet,
    "dit": DiT,
    "uvit": UViT,
    "jit": JiT,
    "mp-unet": MPUNet,
    "refinenet": RefineNet,
    "refinenet-v2": RefineNetV2,
    "dpm-image": DPMImage,
    "dpm-radial": DPMRadial,
    "dpm-local": DPMLocal,
    "dpm-bits": DPMBits,
    "encoder-unet": Encoder,
    "control": Control,
    "conv-autoencoder": ConvAutoencoder,
}
"""The kinds of networks, as recipes and JSON name them."""

__all__ = ["NETWORKS", "Backbone", "Embedded"]
