"""What every command shares: typed arguments in, one clear line out where they are wrong, and the words for things.

This is where strings become objects; below the command line, functions are passed, not names.
"""

from __future__ import annotations

import contextlib
import io
import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sfumato.cli.numbers import UsageError as UsageError
from sfumato.cli.numbers import checked
from sfumato.cli.streams import unfiltered

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.sampling import Sampler
    from sfumato.core.schedules import Steps
    from sfumato.data.pictures import View
    from sfumato.models.model import Model

T = TypeVar("T")


def parse(kind: type[T], arguments: list[str], program: str, default: T | None = None, about: str | None = None) -> T:
    """Typed arguments; a wrong one becomes a UsageError of one line. `about` follows the help."""
    import tyro

    arguments = [_counted(flag, word) for flag, word in zip(["", *arguments], arguments, strict=False)]
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard), unfiltered():
            given: dict[str, Any] = {} if default is None else {"default": default}
            parsed: T = tyro.cli(kind, args=arguments, prog=program, **given)
    except SystemExit as stop:
        if stop.code in (0, None):
            if about:
                print(about)
            raise
        unboxed = re.sub(r"\x1b\[[0-9;]*m", "", heard.getvalue())
        untitled = re.sub(r"\A\s*(\u256d.*|.*\n *-{3,} *\n)", "", unboxed)
        plain = re.sub(r"[^\x20-\x7e\n]|[-+|]{3,}", " ", untitled).partition("For full helptext")[0]
        text = " ".join(plain.replace("Parsing error", " ").replace("|", " ").split())
        text = re.sub(r"no type matching (\{None\} )?(.+?) could be instantiated from \[(.*?)\]\. Got errors: .*?"
                      r"(?= Argument helptext:|$)", r"\3 is no \2.", text)  # fmt: skip
        raise UsageError(f"{text} (see: {program} --help)") from None
    checked(parsed)
    return parsed


def _counted(before: str, word: str) -> str:
    """A word of a command; with 64000 for 64k where it is the value of an option that counts images."""
    flag, equals, value = word.partition("=") if word.startswith("-") else (before, "", word)
    if not re.search(r"\.(\w+[-_])?(images|warmup|decay[-_]after)$", flag) or not re.fullmatch(
        r"[\d._]+[kKmMbB]", value
    ):
        return word
    from sfumato.papers.training import parse_count

    return f"{flag}=" * bool(equals) + str(parse_count(value))


# ---------------------------------------------------------------- steps, models, images, folders


def steps_of(text: str, spacing: str = "auto") -> Steps:
    """A number of steps, which the sampler spreads, or one of the published grids."""
    from sfumato.samplers import grids

    if not re.fullmatch(r"-?\d+", text):
        if spacing not in ("auto", "sections") or not re.fullmatch(r"(ddim)?\d+(,\d+)*", text):
            raise UsageError(f"--steps is a number, or a respacing such as 10,10,10 or ddim50, not {text!r}")
        return partial(grids.respace, text=text)
    n = int(text)
    if spacing == "sections":
        return partial(grids.sections, counts=[n])
    spaced = {"quadratic": grids.trailing_quadratic, "ddim-uniform": grids.ddim_uniform,
              "ddim-quadratic": grids.ddim_quadratic}  # fmt: skip
    return partial(spaced[spacing], n=n) if spacing in spaced else n


def sides_of(text: str | None) -> tuple[int, int] | None:
    """Width and height of WIDTHxHEIGHT, or a square's side; None for None."""
    if text is None:
        return None
    width, cross, height = text.partition("x")
    sides = (width, height) if cross else (width, width)
    if not all(re.fullmatch(r"[1-9][0-9]{0,3}", side, re.ASCII) for side in sides):
        raise UsageError(f"--size is WIDTHxHEIGHT in pixels, up to 9999 each, not {text!r}")
    return int(sides[0]), int(sides[1])


def device_of(word: str) -> str:
    """cpu, cuda or mps; "auto" takes a GPU where there is one. ValueError for what this machine lacks."""
    from sfumato.runtime.precision import usable_device

    return usable_device(word)


def loaded(target: str, weights: str | None, device: str) -> Model:
    """The model of a TARGET, on the device; "auto" takes a GPU where there is one."""
    from sfumato.models.loading import load_model

    return load_model(target, weights=weights, device=device_of(device))


def sampler_of(word: str) -> Sampler | str | None:
    """A sampler of `--sampler`: auto is the model's usual one (None), own the paper's, the rest specs of the table."""
    from sfumato import samplers

    if word == "auto":
        return None
    return word if word == "own" else samplers.by_name(word)


def sampler_help(arguments: list[str]) -> str | None:
    """What `--help` says of samplers; None where help is not asked for, since it needs torch."""
    if not set(arguments) & {"-h", "--help"}:
        return None
    from sfumato import samplers

    width = max(map(len, samplers.SAMPLERS))
    lines = (
        "--sampler SPEC takes one of these, with options, as ddim?eta=1, heun?churn=40 or ancestral?variance=large:",
        "",
        f"{'auto':{width}}  The usual one: DPM-Solver++(2M) on Karras' grid, or the paper's own where that fails.",
        f"{'own':{width}}  The paper's own.",
        samplers.listed(),
    )
    return "\n".join(lines)


def known_images(spec: str | None, model: Model) -> Any:
    """The images of a spec, or of the test split of what the model was trained on."""
    from sfumato.data import open_source
    from sfumato.data.splits import test_split

    trained_on = model.about.get("data", {}).get("spec", "")
    chosen = spec or test_split(trained_on) or trained_on
    if not chosen:
        raise UsageError("say which images: --data fashion:test, for example")
    return open_source(chosen)


def some_pictures(spec: str | None, model: Model, n: int) -> tuple[Tensor, Tensor | None]:
    """n pictures spread over a set, and their labels where the model has classes."""
    from sfumato.models.real import spread

    images = known_images(spec, model)
    if not 1 <= n <= len(images):
        raise UsageError(f"{n} pictures are asked for, {images.spec} has {len(images)}")
    return spread(model, images, n)


def view_of(data: str | None, model: Model) -> View | None:
    """What sheets show: what ?show= and ?window= of the pictures choose, or of what the model was trained on."""
    from sfumato.data import sources

    return sources.view_of(data, str(model.about.get("data", {}).get("spec", "")))


def file_name(text: str) -> str:
    """A spec as part of a file's name: heun?churn=40 -> heun-churn-40; its beginning where it is long."""
    return re.sub(r"[^\w.,-]+", "-", text)[:60]
