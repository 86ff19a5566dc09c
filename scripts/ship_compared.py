"""Pack the models of a comparison for the package, and draw a sheet with a row for each.

`python scripts/ship_compared.py RUNS DATA [PRESET ...]` takes the runs that `sfumato compare DATA --run --runs RUNS`
left, puts the averaged weights of these presets (all, where none is named) as float16 into sfumato/checkpoints, prints
their sizes, and draws docs/images/DATA-models.png: the first twelve pictures of each run, as `sfumato sample` makes
them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import torch

from sfumato.compare.entries import makes_pictures, presets
from sfumato.data import pictures
from sfumato.models import load_model
from sfumato.runtime import checkpoint, weights
from sfumato.runtime.folder import RunFolder

ROOT = Path(__file__).parent.parent
COLUMNS = 12


def pack(run: Path, preset: str) -> Path:
    """The averaged weights of a run's last checkpoint, in the package."""
    saved = checkpoint.read(RunFolder.open(run).latest_checkpoint() or Path())
    target = ROOT / "sfumato" / "checkpoints" / f"{preset.replace('/', '-')}.safetensors"
    weights.save_weights(target, saved, half=True)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1e6:.2f} MB, {saved.progress['images']:,} images")
    return target


def sheet(files: dict[str, Path], path: Path) -> None:
    """A row of pictures for each model, unchosen, with its name."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(files), 1, figsize=(10, 0.92 * len(files)), layout="constrained")
    for ax, (preset, file) in zip(axes, files.items(), strict=True):
        images = load_model(file).sample(COLUMNS, batch=COLUMNS)
        row = pictures.grid(images, columns=COLUMNS)
        ax.imshow(row.permute(1, 2, 0).squeeze(-1), cmap="gray", vmin=0, vmax=255)
        ax.set_ylabel(preset, rotation=0, ha="right", va="center", fontsize=10)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        print(f"sampled {preset}", flush=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(runs: Path, data: str, chosen: list[str]) -> int:
    torch.set_num_threads(1)
    if unknown := set(chosen) - set(presets(data)):
        raise SystemExit(f"no models of this comparison: {', '.join(sorted(unknown))}")
    every = {name: runs / data / name.replace("/", "-") for name in presets(data)}
    done = {name: run for name, run in every.items() if (run / "report.html").exists()}
    for name in chosen or done:
        pack(done[name], name)
    sheet({name: run for name, run in done.items() if makes_pictures(name)}, ROOT / f"docs/images/{data}-models.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
