"""Numbers of every command: each option has a range, and what lies outside ends in one line before any work."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pytest

from sfumato import spec
from sfumato.cli import COMMANDS, main
from sfumato.cli.numbers import Count, UsageError, checked
from sfumato.conditioning import Labels
from sfumato.fields import Range, range_of
from sfumato.inverse import Blur
from sfumato.models.guidance import AdaptiveProjected, Guidance, chosen
from sfumato.models.model import Model
from sfumato.models.restoration import _method
from sfumato.samplers import Heun
from tests.models.small import RECIPES, made


def options() -> dict[str, type[Any]]:
    """The dataclass of options of every command but `train`, whose numbers are a recipe's and a training's."""
    files = {name.partition(":")[0] for name in COMMANDS.values()} - {"train"} | {"restore"}
    modules = [import_module(f"sfumato.cli.{file}") for file in sorted(files)]
    return {name: kind for module in modules for name, kind in vars(module).items()
            if name.endswith("Arguments") and is_dataclass(kind) and kind.__module__ == module.__name__}  # type: ignore[misc]  # fmt: skip


def numeric(hint: Any) -> bool:
    return hint in (int, float) or any(map(numeric, get_args(hint)))


def test_every_number_of_every_command_has_a_range() -> None:
    assert len(options()) >= 12
    for name, kind in options().items():
        for field, hint in get_type_hints(kind, include_extras=True).items():
            assert range_of(hint) or not numeric(hint), f"{name}.{field} is a number without a range"


@dataclass(frozen=True)
class Some:
    n: Annotated[Count, "other marks"] = 1
    above: Annotated[float, Range(0, 1, above=True)] = 1.0
    maybe: Annotated[int, Range(0, 9)] | None = None
    several: tuple[Count, ...] = ()
    bare: float = 0.0
    flag: bool = False


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("n", 0, "-n is between 1 and 100,000,000, not 0"),
        ("n", 10**30, "-n is between 1 and"),
        ("above", 0.0, "--above is above 0 and at most 1, not 0"),
        ("above", float("nan"), "--above is above 0 and at most 1, not nan"),
        ("maybe", -1, "--maybe is between 0 and 9, not -1"),
        ("several", (3, 0), "--several is between 1 and"),
        ("bare", float("inf"), "--bare is a finite number, not inf"),
        ("bare", float("nan"), "--bare is a finite number, not nan"),
    ],
)
def test_ranges(field: str, value: Any, line: str) -> None:
    checked(Some())
    with pytest.raises(UsageError, match=line):
        checked(replace(Some(), **{field: value}))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "adm.safetensors"
    made(replace(RECIPES["adm"], conditioning=Labels(3, 0.2)), ("a", "b", "c")).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("sample MODEL --scale nan", "--scale is between -10,000 and"),
        ("sample MODEL --steps 50.5", "--steps is a number, or a respacing"),
        ("sample MODEL --steps ²", "--steps is a number, or a respacing"),
        ("sample MODEL --steps -1", "steps must lie between"),
        ("sample MODEL --classes -1", "unknown class '-1'"),
        ("sample MODEL --classes ²", "unknown class '²'"),
        ("sample MODEL -n 1000000000000", "-n is between 1 and"),
        ("sample MODEL --seed -1", "--seed is between 0 and"),
        ("sample MODEL --batch 0", "--batch is between 1 and"),
        ("sample MODEL --processes 0", "--processes is between 1 and"),
        ("sample MODEL --classifier-scale inf", "--classifier-scale is between"),
        ("sample MODEL --classifier-scale 3", "--classifier names"),
        ("sample MODEL --low-res digits", "is no upsampler"),
        ("sample MODEL --sampler annealed-langevin?per_level=99999999", "per_level of the sampler"),
        ("sample MODEL --sampler ddim?eta=nan", "eta lies between 0 and 1"),
        ("sample MODEL --sampler heun?churn=nan", "churn of sampler heun is a finite number"),
        ("sample MODEL --guidance apg?momentum=nan", "momentum of guidance apg is a finite number"),
        ("sample MODEL --guidance rescale?share=9", "a share lies between 0 and 1"),
        ("sample MODEL --guidance threshold?threshold=nan", "a threshold is a quantile"),
        ("evaluate MODEL --steps 0", "--steps is between 1 and"),
        ("likelihood MODEL --probes 0", "--probes is between 1 and"),
        ("likelihood MODEL --data digits --method ode --solver 99999999999", "--solver is a number from 1 to"),
        ("likelihood MODEL --data digits --method ode --solver ²", "--solver is a number from 1"),
        ("edit interpolate MODEL --temperature inf", "--temperature is above 0"),
        ("edit reconstruct MODEL --steps -1", "--steps is between 1 and"),
        ("edit deblur MODEL --noise nan", "--noise is between 0 and"),
        ("edit restyle MODEL --strength nan", "--strength is above 0"),
        ("inspect digits --batch 0", "--batch is between 1 and"),
        ("compare fashion --run --pictures 0", "--pictures is between 50 and"),
        ("reproduce ddim/consistency --seeds 0", "--seeds is between 1 and"),
        ("prepare digits out --shard-images 0", "--shard-images is"),
        ("learn --no-browser --port 99999", "port"),
        *(
            (f"{verb} MODEL --device {device}", line)
            for verb in ("sample", "evaluate", "likelihood", "edit interpolate", "edit inpaint --mask m.png")
            for device, line in (("banana", "unknown device 'banana'"), ("cpu:1", "there is no cpu:1 here"))
        ),
    ],
)
def test_wrong_numbers_are_one_line(
    words: str,
    line: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([model if word == "MODEL" else word for word in words.split()]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_counts_of_a_method() -> None:
    with pytest.raises(ValueError, match="iterations of the method is at most 10,000"):
        _method("mmps?iterations=99999999", Blur(1.0))


def test_numbers_of_values() -> None:
    """Not only of words: what is made in Python is looked at where a model takes it."""
    small: Model = made(RECIPES["ddpm"])
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="churn of the sampler"):
            small.sampler(Heun(churn=number))
        with pytest.raises(ValueError, match="momentum of the guidance"):
            chosen(AdaptiveProjected(momentum=number))
    spec.finite(Guidance(), "guidance")  # high is infinite by itself
    assert {field.name for field in fields(Guidance)} >= {"high"}
