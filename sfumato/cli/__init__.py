"""The command line: `sfumato VERB ...`, one file a verb; the only place where strings become objects.

Bad input ends in one clear line on standard error and exit code 2; an interrupted run in its resume command and 130
(Ctrl-C) or 143 (terminated).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from sfumato.runtime import signals
from sfumato.version import __version__

USAGE = f"""sfumato {__version__}: eight diffusion papers, one core

  sfumato train PRESET [--data SPEC] [--out DIR]    train a model; finishes with the command that samples from it
  sfumato train --resume RUN                        go on with an interrupted run
  sfumato distill TARGET --to 4 --out DIR           the same model in fewer steps, halved stage by stage
  sfumato reflow TARGET --pairs N --out DIR         noise and what the model makes of it, to train a straighter flow on
  sfumato cascade MODEL UPSAMPLER --out DIR         a model of small images and an upsampler as one, for sfumato sample
  sfumato sample TARGET [-n N] [--steps K]          pictures from a run folder, a checkpoint or a shipped model
  sfumato evaluate TARGET [--reference SPEC]        distances to real images, with protocol and floor
  sfumato compare [DATA]                            all systems on the same images: stored results, or run anew
  sfumato edit interpolate|reconstruct TARGET       interpolate between pictures; encode and decode
  sfumato edit inpaint|superres|deblur TARGET       fill in what a --mask leaves open; enlarge; sharpen
  sfumato edit colorize|restyle TARGET              colour what is grey; other pictures of the same layout
  sfumato likelihood TARGET [--data SPEC]           bits per dimension, term by term
  sfumato convert SOURCE [--to ...] [--out ...]     official and diffusers' files, both ways; model cards
  sfumato prepare SOURCE OUT [--shards]             any source as a memory map or as tar shards, once
  sfumato inspect WHAT                              a preset, run, checkpoint or data set: size, cost, contents
  sfumato reproduce [CLAIM ...]                     the papers' claims as experiments, listed or run
  sfumato learn [LESSON]                            the learning path, in the browser, offline
  sfumato serve MODEL                               a local page, and JSON, to sample, guide and inpaint
  sfumato presets                                   the list of presets and shipped models
  sfumato samplers [MODEL]                          the list of samplers; which of them fit a model
  sfumato doctor [--json]                           versions, devices, data sets, caches: what a bug report needs

Each takes --help. Data specs: digits, emoji32, emoji128, fashion, mnist, cifar10, cifar100, svhn, celeba, imagenet,
swiss_roll, heartbeat, dead_leaves, signals, moving_digits (with :train or :test), lsun:CATEGORY, folder:PATH, npz:PATH,
npy:PATH, pair:INPUTS|TARGETS, map:PATH (prepared), reflow:PATH (noise and picture), wds:SHARDS, hf:PATH (docs/data.md).
"""

COMMANDS = {
    "train": "train:train_command",
    "distill": "distill:distill_command",
    "reflow": "reflow:reflow_command",
    "cascade": "cascade:cascade_command",
    "sample": "sample:sample_command",
    "evaluate": "evaluate:evaluate_command",
    "edit": "edit:edit_command",
    "compare": "compare:compare_command",
    "likelihood": "likelihood:likelihood_command",
    "convert": "convert:convert_command",
    "prepare": "prepare:prepare_command",
    "inspect": "inspect:inspect_command",
    "reproduce": "reproduce:reproduce_command",
    "learn": "learn:learn_command",
    "serve": "serve:serve_command",
    "presets": "inspect:presets_command",
    "samplers": "samplers:samplers_command",
    "doctor": "doctor:doctor_command",
}
"""Every command: its file in this folder, which is imported when it is asked for, and its function there."""


SHARING = ("sample", "evaluate", "likelihood")
"""Commands that several processes can share."""


def command(name: str) -> Callable[[list[str]], int]:
    """The function of a command: (arguments) -> exit code. ValueError for an unknown one."""
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}; known: {', '.join(COMMANDS)}")
    from importlib import import_module

    file, _, function = COMMANDS[name].partition(":")
    found: Callable[[list[str]], int] = getattr(import_module(f"sfumato.cli.{file}"), function)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Without arguments it is the program that was started."""
    with signals.ending(program=arguments is None) as heard:
        from sfumato.cli import endings, streams

        try:
            heard.unwinds = True
            with streams.plain():
                return _run(list(sys.argv[1:] if arguments is None else arguments))
        except (Exception, KeyboardInterrupt) as error:
            heard.unwinds = False
            return endings.end(signals.Stopped(heard.signal) if heard.signal else error)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if words[0] in ("-V", "--version", "version"):
        print(__version__)
        return 0
    run = command(words[0])
    if words[0] != "train" and "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        by_itself = "; start it without them, and let it share its work: --processes N" * (words[0] in SHARING)
        raise ValueError(f"torchrun and accelerate launch are for sfumato train, not {words[0]}{by_itself}")
    return run(words[1:])
