"""What `sfumato train` says at its end: the report, how near an autoencoder comes, and the command that goes on."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.train.loop import TrainResult


def report(result: TrainResult, recipe: Any, data: str, pictures: str) -> None:
    """Say what came of a run, and the command that uses it or goes on with it."""
    from sfumato.evaluate.reconstruction import store_reconstruction
    from sfumato.runtime.folder import RunFolder
    from sfumato.train.report import write_report

    out = shlex.quote(str(result.folder))
    if result.interrupted:
        print(f"\nStopped at {result.images:,} images; everything is saved in {result.folder}")
        print(f"sfumato train --resume {out}")
        return
    built = recipe.build()
    if built.reconstruct is not None:
        print("\n".join(store_reconstruction(result.folder, _of_one_size(pictures, recipe.shape))))
    print(f"Report:  {write_report(result.folder)}\n")
    best = RunFolder(result.folder).best
    if best.is_file():
        print(f"sfumato sample {shlex.quote(str(best))}     # the least distance that was measured on the way")
    if built.reconstruct is not None:
        print(f'sfumato train PRESET --data {shlex.quote(data)} --recipe.space "latents?of={out}"')
    elif built.sampler is None:
        print(f"sfumato sample MODEL --classifier {out}")
    elif recipe.conditioning.picture:
        print(f"sfumato sample {out} --low-res {shlex.quote(pictures)}")
    elif recipe.conditioning.pictured:
        option = "--inputs" if pictures.startswith("pair:") else "--originals"
        print(f"sfumato sample {out} {option} {shlex.quote(_of_one_size(pictures, recipe.shape))}")
    else:
        print(f"sfumato sample {out}")


def _of_one_size(data: str, shape: tuple[int, ...]) -> str:
    """A data spec, of buckets that of the model's own size."""
    from sfumato.data.sources import parse_spec

    spec = parse_spec(data)
    return f"{data}&bucket={shape[2]}x{shape[1]}" if spec.buckets and spec.bucket is None else data
