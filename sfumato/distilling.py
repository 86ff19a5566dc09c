"""Progressive distillation of a trained model, stage by stage, in a folder (Salimans & Ho 2022, algorithm 2).

The folder holds the plan (distill.json), the first teacher (teacher.safetensors), and a run folder for each stage
(steps-16, steps-8, ...), whose teacher is the stage before and whose first weights are that one's. So a distillation
goes on from what lies there alone, within a stage bit for bit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from sfumato.core.distillation import halved
from sfumato.data.images import Images
from sfumato.fields import Range, check
from sfumato.fitting import Training, few, prepare
from sfumato.models import Model, load_model
from sfumato.papers.distilled import student
from sfumato.papers.training import TrainConfig
from sfumato.runtime.files import whole_file
from sfumato.runtime.folder import RunError, RunFolder
from sfumato.runtime.json_file import read_object
from sfumato.runtime.precision import usable_device
from sfumato.starting import initial_of
from sfumato.train.batches import layout
from sfumato.train.loop import TrainResult
from sfumato.train.reading import reading

PLAN, TEACHER = "distill.json", "teacher.safetensors"
FIRST = 32
"""Steps of a first teacher that has none of its own."""
MOST_SLOPE = 10.0
"""How far x0 may move with the network's output at the noisiest level: 1 for v, sigma / alpha for eps."""


@dataclass(frozen=True)
class Plan:
    """What a distillation is to do: plain values, which its folder keeps."""

    source: str
    """The first teacher, as it was named."""
    start: Annotated[int, Range(2, 4096)]
    """Steps of DDIM of the first teacher."""
    to: Annotated[int, Range(1, 2048)]
    """Steps of the last student."""
    scale: Annotated[float, Range(-100, 100)]
    """Classifier-free guidance of the first teacher, which its student has distilled into it."""
    data: str
    """The training images."""
    validation: str | None
    """Images for the loss by noise level."""
    train: TrainConfig
    """The training numbers of each stage."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def stages(self) -> list[int]:
        """The steps of each student in turn. ValueError where halving does not lead there."""
        return halved(self.start, self.to)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "train": self.train.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """What `to_json` wrote. ValueError where it is something else."""
        if set(values) != {field.name for field in fields(cls)}:
            raise ValueError("it does not say what a distillation is to do")
        return cls(**{**values, "train": TrainConfig.from_json(values["train"])})


def own_steps(model: Model) -> int:
    """Steps that a model is made for where it was distilled before, else `FIRST`."""
    return model.diffusion.distilled or FIRST


def check_reading(model: Model) -> None:
    """ValueError unless clean data can be read from the network's output where (almost) no signal is left."""
    _ = model.diffusion.gaussian
    found = reading(model.recipe)
    slope = float("inf") if found is None else float(found.out[0].abs())
    if not slope <= MOST_SLOPE:
        raise ValueError(
            "this network returns the noise, from which clean data cannot be read where no signal is left "
            f"(an error counts {slope:.3g}-fold there): distil a model that returns v or x0"
        )


def begin(model: Model, plan: Plan, out: Path) -> None:
    """Make the folder of a distillation, with its plan and its first teacher."""
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / TEACHER)
    with whole_file(out / PLAN) as file:
        file.write((json.dumps(plan.to_json(), indent=2) + "\n").encode())


def plan_of(out: Path) -> Plan:
    """The plan that a folder keeps. RunError where it keeps none."""
    if not (out / PLAN).is_file():
        raise RunError(f"{out} holds no distillation: it has no {PLAN}")
    try:
        return Plan.from_json(read_object(out / PLAN))
    except (ValueError, TypeError) as error:
        raise RunError(f"{out / PLAN} is damaged: {error}") from None


@dataclass(frozen=True)
class Stage:
    """One halving of the steps.

    Attributes:
        steps: of the student.
        folder: its run folder.
        begun: whether there is a checkpoint in it.
        training: that of the student by the stage before.
    """

    steps: int
    folder: Path
    begun: bool
    training: Training

    def run(self) -> TrainResult:
        """Train the student, or go on."""
        return self.training.run(self.folder, resume=self.begun)


def left(out: Path, plan: Plan, images: Images, validation: Images | None, command: str) -> Iterator[Stage]:
    """The stages that are not finished, each prepared once the one before is. ValueError for what does not fit."""
    before = out / TEACHER
    for steps in plan.stages:
        folder = out / f"steps-{steps}"
        begun = _begun(folder)
        if not (begun and _finished(folder)):
            said = {
                "preset": f"{steps} steps of {plan.source}", "data": plan.data, "validation": plan.validation,
                "command": command, "teacher": before.name,
            }  # fmt: skip
            training = prepared(load_model(before), str(before), plan, steps, images, said, validation)
            yield Stage(steps, folder, begun, training)
        before = folder


def prepared(
    teacher: Model, source: str, plan: Plan, steps: int, images: Images, said: Mapping[str, Any],
    validation: Images | None,
) -> Training:  # fmt: skip
    """The training of a student of so many steps, which begins at the teacher's weights.

    ValueError, before anything is written, for a model, a plan and images that do not fit.
    """
    check_reading(teacher)
    if teacher.recipe.network.frozen:
        raise ValueError("a control is not distilled: distil the model that it controls")
    if teacher.recipe.conditioning.classes and teacher.classes and teacher.classes != images.classes:
        theirs, ours = (few(names) for names in (images.classes, teacher.classes))
        raise ValueError(
            f"a model is distilled on images of its own classes, {ours}; those of {images.spec} are {theirs}"
        )
    scale = plan.scale if steps == plan.stages[0] else 1.0
    recipe = student(teacher.recipe, steps, scale)
    order = layout(plan.train, usable_device(plan.train.device), teacher.recipe.shape)
    teacher.network.to(memory_format=order)  # type: ignore[call-overload]
    built = recipe.taught(teacher.network, scale)
    initial = replace(initial_of(teacher, source), recipe=recipe)  # which reads the network as the student does
    return prepare(recipe, images, plan.train, said, validation=validation, initial=initial, built=built)


def _begun(folder: Path) -> bool:
    """Whether a stage has a checkpoint; what a stage without one has left is taken away."""
    if not (folder / "config.json").is_file():
        return False
    run = RunFolder.open(folder)
    if run.checkpoints():
        return True
    if "teacher" not in run.config():
        raise RunError(f"{folder} is another run, no stage of this distillation")
    shutil.rmtree(folder)
    return False


def _finished(folder: Path) -> bool:
    run = RunFolder.open(folder)
    saved, settings = run.latest(), TrainConfig.from_json(run.config()["train"])
    return saved is not None and settings.progress(saved.progress["images"], saved.progress["seconds"]) >= 1
