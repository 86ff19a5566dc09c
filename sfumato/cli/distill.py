"""`sfumato distill`: progressive distillation of a trained model into few steps (Salimans & Ho 2022)."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from sfumato.cli.numbers import Range, Scale
from sfumato.cli.parsing import UsageError, parse
from sfumato.data.splits import test_split
from sfumato.papers.training import TrainConfig

if TYPE_CHECKING:
    from sfumato.data.images import Images
    from sfumato.distilling import Plan

STAGE = TrainConfig(minutes=5.0, learning_rate=4e-4, warmup=6_400)
"""The training numbers of a stage: the rate of fine-tuning, a fifth of the small presets'."""


@dataclass(frozen=True)
class DistillArguments:
    """Halve the steps of a model, stage by stage: each stage trains a student to make one step of its teacher's two."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model that returns v or x0, such as ddpm/fashion."""
    out: Path
    """The folder: distill.json, the first teacher, and a run folder for each stage."""
    to: Annotated[int, Range(1, 2048)] = 4
    """Steps of the last student."""
    from_steps: Annotated[int, Range(2, 4096)] | None = None
    """Steps of DDIM of the model as it is; by default 32, or its own where it was distilled before."""
    scale: Scale = 1.0
    """Classifier-free guidance of the model as it is, which the first student has distilled into it; 1 is none."""
    data: str | None = None
    """The training images; by default those that the model was trained on."""
    validation: str | None = None
    """Images for the loss by noise level; by default the :test split where the data have one."""
    weights: str | None = None
    """Which of the model's weights, as in sample."""
    train: TrainConfig = field(default_factory=lambda: STAGE)
    """The training numbers of each stage."""
    dry_run: bool = False
    """Check everything and say what a stage would cost here; write nothing."""


@dataclass(frozen=True)
class GoOnArguments:
    """Go on with an interrupted distillation."""

    resume: Path
    """Its folder."""


def distill_command(arguments: list[str]) -> int:
    if any(word == "--resume" or word.startswith("--resume=") for word in arguments):
        return _go_on(parse(GoOnArguments, arguments, "sfumato distill").resume)
    flags = {word.partition("=")[0] for word in arguments}
    alone = "--train.images" in flags and "--train.minutes" not in flags  # one's own budget replaces the default
    words = [*arguments, "--train.minutes", "None"] if alone else arguments
    return _begin(parse(DistillArguments, words, "sfumato distill"))


def _begin(parsed: DistillArguments) -> int:
    from sfumato.distilling import Plan, begin, own_steps, prepared
    from sfumato.fitting import check_out
    from sfumato.models.loading import load_model
    from sfumato.runtime.lock import hold
    from sfumato.runtime.precision import usable_device

    usable_device(parsed.train.device)
    check_out(parsed.out)
    model = load_model(parsed.target, weights=parsed.weights)
    data = parsed.data or model.about.get("data", {}).get("spec")
    if not data:
        raise UsageError("say which images: --data fashion, for example")
    plan = Plan(
        parsed.target, parsed.from_steps or own_steps(model), parsed.to, parsed.scale, data,
        parsed.validation or test_split(data), parsed.train,
    )  # fmt: skip
    steps = plan.stages[0]
    images = _images(plan)
    said: dict[str, Any] = {"preset": "", "data": data, "validation": plan.validation}
    training = prepared(model, parsed.target, plan, steps, images[0], said, images[1])
    print(f"stages   {' -> '.join(map(str, (plan.start, *plan.stages)))} steps, each {plan.train.budget()}")
    if parsed.dry_run:
        training.rehearse()
        for line in (f"run      {parsed.out}, which is not made", *training.costs()):
            print(line)
        return 0
    parsed.out.mkdir(parents=True, exist_ok=True)
    with hold(parsed.out, "distilled"):
        check_out(parsed.out)  # another process may have begun in it since
        begin(model, plan, parsed.out)
        return _run(parsed.out, plan, images)


def _go_on(out: Path) -> int:
    from sfumato.distilling import plan_of
    from sfumato.runtime.lock import hold

    plan = plan_of(out)
    images = _images(plan)
    with hold(out, "distilled"):
        return _run(out, plan, images)


def _images(plan: Plan) -> tuple[Images, Images | None]:
    """The images to train on, and those for the loss by noise level."""
    from sfumato.data import open_source
    from sfumato.data.stream import open_for_training

    return open_for_training(plan.data), open_source(plan.validation) if plan.validation else None


def _run(out: Path, plan: Plan, images: tuple[Images, Images | None]) -> int:
    from sfumato.distilling import left
    from sfumato.train.report import write_report

    quoted = shlex.quote(str(out))
    for stage in left(out, plan, *images, shlex.join(["sfumato", *sys.argv[1:]])):
        print(f"\nstage    {2 * stage.steps} -> {stage.steps} steps{', going on' if stage.begun else ''}")
        result = stage.run()
        if result.interrupted:
            print(f"\nStopped at {result.images:,} images; everything is saved in {result.folder}")
            print(f"sfumato distill --resume {quoted}")
            return result.exit_code
        print(f"Report:  {write_report(result.folder)}")
    print(f"\nsfumato sample {shlex.quote(str(out / f'steps-{plan.to}'))}")
    return 0
