"""The command line: `sfumato VERB ...`, one file a verb; the only place where strings become objects.

Bad input ends in one clear line on standard error and exit code 2; an interrupted run in its resume command and 130
(Ctrl-C) or 143 (terminated).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from sfumato.cli.compare import compare_command
from sfumato.cli.convert import convert_command
from sfumato.cli.edit import edit_command
from sfumato.cli.evaluate import evaluate_command
from sfumato.cli.inspect import inspect_command, presets_command
from sfumato.cli.learn import learn_command
from sfumato.cli.likelihood import likelihood_command
from sfumato.cli.parsing import UsageError
from sfumato.cli.prepare import prepare_command
from sfumato.cli.reproduce import reproduce_command
from sfumato.cli.sample import sample_command
from sfumato.cli.train import train_command
from sfumato.version import __version__

USAGE = f"""sfumato {__version__}: eight diffusion papers, one core

  sfumato train PRESET [--data SPEC] [--out DIR]    train a model; finishes with the command that samples from it
  sfumato train --resume RUN                        go on with an interrupted run
  sfumato sample TARGET [-n N] [--steps K]          pictures from a run folder, a checkpoint or a shipped model
  sfumato evaluate TARGET [--reference SPEC]        distances to real images, with protocol and floor
  sfumato compare [DATA]                            all systems on the same images: stored results, or run anew
  sfumato edit interpolate|reconstruct TARGET       interpolate between pictures; encode and decode
  sfumato edit inpaint|superres|deblur TARGET       fill in what a --mask leaves open; enlarge; sharpen
  sfumato edit colorize|restyle TARGET              colour what is grey; other pictures of the same layout
  sfumato likelihood TARGET [--data SPEC]           bits per dimension, term by term
  sfumato convert SOURCE [--to ...] [--out ...]     official and diffusers' checkpoints, both ways
  sfumato prepare SOURCE OUT [--shards]             any source as a memory map or as tar shards, once
  sfumato inspect WHAT                              a preset, run, checkpoint or data set: size, cost, contents
  sfumato reproduce [CLAIM ...]                     the papers' claims as experiments, listed or run
  sfumato learn [LESSON]                            the learning path, in the browser, offline
  sfumato presets                                   the list of presets and shipped models

Each takes --help. Data specs: digits, emoji32, fashion, mnist, swiss_roll, heartbeat, dead_leaves (with :train or
:test), folder:PATH, npz:PATH, map:PATH (prepared), wds:SHARDS, hf:PATH.
"""

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train_command,
    "sample": sample_command,
    "evaluate": evaluate_command,
    "edit": edit_command,
    "compare": compare_command,
    "likelihood": likelihood_command,
    "convert": convert_command,
    "prepare": prepare_command,
    "inspect": inspect_command,
    "reproduce": reproduce_command,
    "learn": learn_command,
    "presets": presets_command,
}


SHARING = ("sample", "evaluate", "likelihood")
"""Commands that several processes can share."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if words[0] in ("-V", "--version", "version"):
        print(__version__)
        return 0
    try:
        if words[0] not in COMMANDS:
            raise UsageError(f"unknown command {words[0]!r}; known: {', '.join(COMMANDS)}")
        if words[0] != "train" and "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            by_itself = "; start it without them, and let it share its work: --processes N" * (words[0] in SHARING)
            raise UsageError(f"torchrun and accelerate launch are for sfumato train, not {words[0]}{by_itself}")
        return COMMANDS[words[0]](words[1:])
    except (ValueError, OSError) as error:
        print(f"sfumato: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sfumato: stopped", file=sys.stderr)
        return 130


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
