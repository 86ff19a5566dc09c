"""Recorded outputs of denoising-diffusion-pytorch: the cases, the weights by a formula, and what its runs returned.

`distill_lucidrains` runs the package (MIT) and writes lucidrains.json.gz; no weights are kept, since both sides make
them by `weights`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FILE = Path(__file__).parent / "lucidrains.json.gz"
STEPS, SIDE, ROW = 25, 8, 16
UNET: dict[str, Any] = {"dim": 8, "dim_mults": (1, 2), "attn_dim_head": 8}
KARRAS: dict[str, Any] = {
    "dim": 8, "channels": 3, "num_downsamples": 1, "num_blocks_per_stage": 1, "attn_res": (4,), "attn_dim_head": 8,
}  # fmt: skip
CONTINUOUS = ("ContinuousTimeGaussianDiffusion", "VParamContinuousTimeGaussianDiffusion")
REAL = {"ElucidatedDiffusion", *CONTINUOUS}
"""The diffusions that give the network real numbers, and count the steps of their samplers."""
CASES: dict[str, dict[str, Any]] = {
    "noise linear": {"unet": {}, "diffusion": {"objective": "pred_noise", "beta_schedule": "linear"}},
    "x0 cosine": {"unet": {"channels": 1}, "diffusion": {"objective": "pred_x0", "beta_schedule": "cosine"}},
    "v sigmoid": {"unet": {"init_dim": 12}, "diffusion": {"min_snr_loss_weight": True}},
    "v sharper sigmoid": {
        "unet": {"full_attn": (False, False)},
        "diffusion": {"schedule_fn_kwargs": {"start": 0, "end": 3, "tau": 0.5}, "sampling_timesteps": 5},
    },
    "learned variance": {"unet": {"learned_variance": True}, "kind": "LearnedGaussianDiffusion",
                         "diffusion": {"objective": "pred_noise", "beta_schedule": "cosine"}},
    "elucidated": {"unet": {"learned_sinusoidal_cond": True}, "kind": "ElucidatedDiffusion", "diffusion": {}},
    "rows": {"unet": {"attn_dim_head": 32}, "kind": "GaussianDiffusion1D", "diffusion": {"objective": "pred_v"}},
    "labels": {"unet": {"num_classes": 5, "attn_dim_head": 32}, "kind": "labels",
               "diffusion": {"objective": "pred_noise"}},
    "fed back": {"unet": {"self_condition": True}, "diffusion": {"beta_schedule": "cosine"}},
    "fed back by DDIM": {"unet": {"self_condition": True, "channels": 1},
                         "diffusion": {"objective": "pred_noise", "sampling_timesteps": 5}},
    "continuous linear": {"unet": {"learned_sinusoidal_cond": True}, "kind": "ContinuousTimeGaussianDiffusion",
                          "diffusion": {"noise_schedule": "linear"}},
    "continuous cosine": {"unet": {"random_fourier_features": True}, "kind": "ContinuousTimeGaussianDiffusion",
                          "diffusion": {"noise_schedule": "cosine"}},
    "continuous learned": {
        "unet": {"learned_sinusoidal_cond": True}, "kind": "ContinuousTimeGaussianDiffusion",
        "diffusion": {"noise_schedule": "learned", "learned_schedule_net_hidden_dim": 16},
    },
    "continuous v": {"unet": {"learned_sinusoidal_cond": True, "channels": 1},
                     "kind": "VParamContinuousTimeGaussianDiffusion", "diffusion": {}},
    "weighted objective": {"unet": {"out_dim": 8}, "kind": "WeightedObjectiveGaussianDiffusion",
                           "diffusion": {"beta_schedule": "cosine"}},
    # so wild with weights by a formula that more steps would multiply rounding
    "karras": {"net": "KarrasUnet", "unet": {"num_downsamples": 2, "attn_res": (8, 4)},
               "diffusion": {"objective": "pred_x0", "beta_schedule": "linear", "sampling_timesteps": 2}},
    "karras fed back": {"net": "KarrasUnet", "unet": {"num_blocks_per_stage": 2, "self_condition": True},
                        "diffusion": {"objective": "pred_x0", "beta_schedule": "sigmoid"}},
    "karras elucidated": {"net": "KarrasUnet", "unet": {"attn_dim_head": 16, "dim_max": 12},
                          "kind": "ElucidatedDiffusion", "diffusion": {}},
    "karras rows": {"net": "KarrasUnet1D", "unet": {}, "kind": "GaussianDiffusion1D",
                    "diffusion": {"objective": "pred_x0"}},
    "version 1.9": {"unet": {"attn_dim_head": None, "full_attn": (False, True)}, "version": "1.9.0",
                    "diffusion": {"objective": "pred_v"}},
    "version 1.7": {"unet": {"attn_dim_head": None}, "version": "1.7.1", "diffusion": {"objective": "pred_noise"}},
}  # fmt: skip


def weights(shapes: Mapping[str, Any]) -> dict[str, Tensor]:
    """A tensor for each name, by a formula in its place and its number, of a size that keeps activations near 1."""
    made: dict[str, Tensor] = {}
    for n, (name, shape) in enumerate(shapes.items()):
        size = torch.Size(shape)
        waves = torch.sin(torch.arange(size.numel(), dtype=torch.float64) * (0.7 + 0.003 * n) + n).reshape(size)
        gain = name.endswith((".g", "norm.weight"))
        fan = max(1, size.numel() // max(1, size[0])) if len(size) > 1 else 4
        fan = 400 if name.endswith(".gain") else fan  # so that sampling is not chaotic
        made[name] = (1 + 0.2 * waves if gain else waves * fan**-0.5).float()
    return made


def schedule_weights(shapes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Those of a learned noise schedule, whose first weight must not be 0."""
    return {name: value for name, value in weights({"": (1,), **shapes}).items() if name}


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """x (2, C, ...) by a formula, and times (2,)."""
    x = torch.sin(torch.arange(2 * torch.Size(shape).numel(), dtype=torch.float64) * 1.3).reshape(2, *shape).float()
    return x, torch.tensor([3.0, 17.0])


def recorded() -> dict[str, Any]:
    """case -> shapes of its state dict by name, tables, the network's output, and a sample from seed 0."""
    found: dict[str, Any] = json.loads(gzip.decompress(FILE.read_bytes()))
    return found
