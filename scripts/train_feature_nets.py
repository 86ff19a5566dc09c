"""Train the in-domain feature nets that the package ships: `python scripts/train_feature_nets.py [NAME ...]`.

Writes sfumato/evaluate/assets/NAME.safetensors (float16) and prints the accuracy on the test split, measured with the
rounded weights, and the sha256 that features.py pins. One thread, one seed: the same machine gives the same file.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from sfumato.data import Images, Order, flip, open_source
from sfumato.evaluate.features import SHIPPED
from sfumato.evaluate.nets import SmallNet
from sfumato.runtime.files import whole_file

ASSETS = Path(__file__).parent.parent / "sfumato" / "evaluate" / "assets"
BATCH, SEED = 128, 0


@dataclass(frozen=True)
class Plan:
    """How a net is trained.

    Attributes:
        train: spec of the training images; what it leaves out stays unseen.
        epochs: passes over them.
        augment: images (B, C, H, W) in 0..1 and a generator -> the same, varied.
        rate: AdamW's highest learning rate, in one cycle.
    """

    train: str
    epochs: int
    augment: Callable[[Tensor, torch.Generator], Tensor]
    rate: float = 4e-3


def shifted(x: Tensor, pad: int, value: float, chance: torch.Generator) -> Tensor:
    """Each image moved by up to `pad` pixels either way, the border filled with `value`."""
    n, _, height, width = x.shape
    wide = F.pad(x, (pad,) * 4, value=value)
    dy, dx = torch.randint(2 * pad + 1, (2, n, 1, 1, 1), generator=chance)
    rows = (torch.arange(height)[:, None] + dy).expand(n, x.shape[1], height, wide.shape[-1])
    columns = (torch.arange(width) + dx).expand(n, x.shape[1], height, width)
    return wide.gather(2, rows).gather(3, columns)


def mirrored(x: Tensor, chance: torch.Generator) -> Tensor:
    """Half of the images left-right."""
    return flip(x, torch.rand(len(x), generator=chance) < 0.5)


def warped(x: Tensor, chance: torch.Generator) -> Tensor:
    """Each image turned by up to 15 degrees, scaled by 0.8 to 1.2 and moved by up to an eighth, on white."""
    n = len(x)
    angle, scale, dx, dy = (torch.rand(4, n, generator=chance) * 2 - 1) * torch.tensor([[0.26], [0.2], [0.25], [0.25]])
    scale = 1 + scale
    rows = [torch.stack(r, 1) for r in ((scale * angle.cos(), -scale * angle.sin(), dx),
                                        (scale * angle.sin(), scale * angle.cos(), dy))]  # fmt: skip
    places = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return 1 - F.grid_sample(1 - x, places, align_corners=False)


def coloured(x: Tensor, chance: torch.Generator) -> Tensor:
    """Each image's darkness scaled by 0.7 to 1.3, a channel at a time, so that white stays white."""
    scale = 0.7 + 0.6 * torch.rand(len(x), x.shape[1], 1, 1, generator=chance)
    return (1 - (1 - x) * scale).clamp(0, 1)


PLANS = {
    "digits": Plan("digits", 40, lambda x, chance: shifted(x, 1, 0.0, chance)),
    "fashion": Plan("fashion?limit=50000", 6, lambda x, chance: mirrored(x, chance)),
    "emoji32": Plan("emoji32", 80, lambda x, chance: coloured(warped(mirrored(x, chance), chance), chance)),
}


def trained(name: str, images: Images) -> SmallNet:
    """The net of that name after its plan."""
    torch.manual_seed(SEED)
    plan, chance = PLANS[name], torch.Generator().manual_seed(SEED)
    net = SHIPPED[name].net().train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=0.05)
    steps = plan.epochs * len(images) // BATCH
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.rate, total_steps=steps, pct_start=0.2)
    order, labels = Order(len(images), SEED), images.labels
    assert labels is not None
    for step in range(steps):
        chosen = order.batch(step * BATCH, BATCH)
        x = plan.augment(images.images[chosen].float() / 255, chance)
        loss = F.cross_entropy(net(x).logits, labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
        if step % (steps // 10) == 0:
            print(f"  {name} step {step} of {steps}, loss {loss.item():.3f}", flush=True)
    return net.eval()


@torch.inference_mode()
def accuracy(net: SmallNet, images: Images) -> float:
    """Share of the images whose class is right."""
    assert images.labels is not None
    guesses = torch.cat([net(part.float() / 255).logits.argmax(1) for part in images.images.split(1000)])
    return float((guesses == images.labels).float().mean())


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names:
        started = time.perf_counter()
        images, test = open_source(PLANS[name].train), open_source(f"{name}:test")
        net = trained(name, images)
        half = {key: value.half() for key, value in net.state_dict().items() if "num_batches" not in key}
        net.load_state_dict({key: value.float() for key, value in half.items()}, strict=False)
        content = save({key: value.contiguous() for key, value in half.items()})
        with whole_file(ASSETS / f"{name}.safetensors") as file:
            file.write(content)
        print(
            f"{name}: {accuracy(net, test):.2%} of {len(test):,} unseen right, {accuracy(net, images):.2%} of its own, "
            f"{sum(p.numel() for p in net.parameters()):,} parameters, {len(content) / 1e6:.2f} MB, "
            f"{time.perf_counter() - started:.0f} s\n  sha256 {hashlib.sha256(content).hexdigest()}"
        )


if __name__ == "__main__":
    main(sys.argv[1:] or list(PLANS))
