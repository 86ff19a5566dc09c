"""`sfumato prepare`: a source becomes a memory map, or tar shards, once; training then reads it at full speed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sfumato.cli.numbers import Count
from sfumato.cli.parsing import parse


@dataclass(frozen=True)
class PrepareArguments:
    """Turn any source into a memory map, or into tar shards; interrupted, the same command goes on."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A data spec, for example 'folder:my/pictures?size=64'."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to write; it appears when it is whole."""
    shards: bool = False
    """Tar shards in a shuffled order, for sets larger than a disk of one machine (needs the extra wds)."""
    shard_images: Count = 512
    """Images in a shard."""


def prepare_command(arguments: list[str]) -> int:
    parsed = parse(PrepareArguments, arguments, "sfumato prepare")
    from tqdm import tqdm

    from sfumato.data.prepare import prepare

    with tqdm(desc="preparing", unit="image", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        made = prepare(parsed.source, parsed.out, shard=parsed.shard_images if parsed.shards else None, progress=show)
    if not isinstance(made, str):
        print(made.card)
    spec = made if isinstance(made, str) else made.spec
    print(f"{spec}\nsfumato train PRESET --data {shlex.quote(spec)}")
    return 0
