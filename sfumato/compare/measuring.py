"""Trains what is missing and scores what is not yet scored; every figure goes to one JSON file once it is known."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.cli.parsing import test_split
from sfumato.compare.contestants import NUMBERS, Contestant, contestants, makes_pictures, presets
from sfumato.cost.inspection import forward_flops, parameters
from sfumato.data import Images, open_source, pictures
from sfumato.evaluate.features import FeatureNet, in_domain
from sfumato.evaluate.likelihood import bound_of, k_of
from sfumato.evaluate.run import evaluate
from sfumato.evaluate.samples import sampled
from sfumato.flow import flow_likelihood
from sfumato.model import Guide, Model, Request, load
from sfumato.papers.recipe import Bounded, Nonequilibrium
from sfumato.presets import PRESETS
from sfumato.runtime.folder import RunFolder

AT = 100
"""Evaluations at which pictures are kept and copies looked for."""
HELD_OUT = 64
"""Test images for bits/dim."""


def pictures_at(evaluations: int, most: int = 500) -> int:
    """How many pictures are scored: fewer where each costs more."""
    return most if evaluations <= 100 else most // 2 if evaluations <= 250 else most // 5


@dataclass
class Comparison:
    """One comparison: where its runs and its results are.

    Attributes:
        data: a data set that all papers have a preset for, such as fashion.
        runs: the folder with a run for every preset and seed.
        results: the JSON file.
        images: the budget, training images seen.
        seeds: how many trainings of each.
        numbers: evaluations a picture at which it scores.
        pictures: how many of each it scores, up to 100 evaluations; fewer beyond.
        threads: of torch in training.
        say: told what happens.
    """

    data: str
    runs: Path
    results: Path
    images: int
    seeds: int = 1
    numbers: tuple[int, ...] = NUMBERS
    pictures: int = 500
    threads: int = 1
    say: Callable[[str], None] = print

    def run(self, preset: str, seed: int) -> Path:
        """The folder of one training."""
        return self.runs / self.data / (preset.replace("/", "-") + (f"-{seed}" if seed else ""))

    def found(self) -> dict[str, Any]:
        """What is known so far."""
        empty = {"data": self.data, "images": self.images, "models": {}, "scores": {}}
        return json.loads(self.results.read_text("utf-8")) if self.results.exists() else empty

    def _keep(self, *keys: str, value: Any) -> None:
        found = place = self.found()
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
        self.results.parent.mkdir(parents=True, exist_ok=True)
        pictures.write_text(self.results, json.dumps(found, indent=1) + "\n")

    # ------------------------------------------------------------ training

    def train(self, only: str = "") -> None:
        """Train the models whose name begins with `only`, as anyone would type it; goes on where it stopped."""
        from sfumato.cli import main

        for seed in range(self.seeds):
            for preset in (p for p in presets(self.data) if p.startswith(only)):
                out = self.run(preset, seed)
                if (out / "report.html").exists():
                    continue
                self.say(f"training {preset}, seed {seed}")
                new = [preset, "--train.images", str(self.images), "--train.threads", str(self.threads),
                       "--train.seed", str(seed), "--out", str(out)]  # fmt: skip
                if main(["train", *(["--resume", str(out)] if (out / "config.json").exists() else new)]):
                    raise ChildProcessError(f"training {preset} did not finish")

    # ------------------------------------------------------------ scoring

    def score(self, only: str = "") -> None:
        """Score the trained contestants whose name begins with `only`, and find their likelihood."""
        net, training = in_domain(self.data), open_source(self.data)
        test = open_source(test_split(self.data) or self.data)
        self._keep("net", value=net.distance)
        for seed in range(self.seeds):
            for preset in (p for p in presets(self.data) if p.startswith(only) and self._ready(p, seed)):
                if str(seed) not in self.found()["models"].get(preset, {}):
                    self._keep("models", preset, str(seed), value=self._facts(preset, seed, test))
            for one in (c for c in contestants(self.data) if c.name.startswith(only)):
                if not self._ready(one.preset, seed) or (one.classifier and not self._ready(one.classifier, seed)):
                    continue
                for evaluations in self.numbers:
                    if str(seed) in self.found()["scores"].get(one.name, {}).get(str(evaluations), {}):
                        continue
                    row = self._scores(one, seed, evaluations, net, training, test)
                    self.say(f"{one.name}, {evaluations} evaluations, seed {seed}: {row.get('frechet', row)}")
                    self._keep("scores", one.name, str(evaluations), str(seed), value=row)

    def _ready(self, preset: str, seed: int) -> bool:
        return (self.run(preset, seed) / "report.html").exists()

    def _facts(self, preset: str, seed: int, test: Images) -> dict[str, Any]:
        """What a model is and cost, and how likely it finds test images, by each estimator that applies."""
        model = load(self.run(preset, seed))
        last = RunFolder.open(self.run(preset, seed)).metrics("train")[-1]
        facts: dict[str, Any] = {
            "parameters": parameters(model.network), "flops": forward_flops(PRESETS[preset].recipe),
            "images": last["images"], "cpu_seconds_per_thousand": training_cost(preset),
        }  # fmt: skip
        if makes_pictures(preset):
            for name, estimate in (("bound", _bound), ("flow", _flow)):
                started = time.process_time()
                try:
                    facts[name] = estimate(model, test)
                except ValueError as reason:
                    facts[name] = {"refused": str(reason)}
                self.say(f"{preset}, {name}: {facts[name]} ({time.process_time() - started:.0f} s)")
        return facts

    def _scores(
        self, one: Contestant, seed: int, evaluations: int, net: FeatureNet, training: Images, test: Images
    ) -> dict[str, Any]:
        """The measures of one contestant at one number of evaluations; the reason where it cannot be sampled so."""
        count, model = pictures_at(evaluations, self.pictures), load(self.run(one.preset, seed))
        guide = None
        if one.classifier:
            guide = Guide(load(self.run(one.classifier, seed)), one.classifier_scale)
        request = Request(
            count, one.steps(evaluations), one.sampler, seed=seed, scale=one.scale, guide=guide, batch=125
        )
        started = time.process_time()
        try:
            samples = sampled(model, request)
        except ValueError as reason:
            return {"refused": str(reason)}
        seconds = time.process_time() - started
        if evaluations == AT:
            sheet = self.results.with_name(f"{self.data}-pictures") / f"{_file(one.name)}.png"
            if seed == 0:
                sheet.parent.mkdir(parents=True, exist_ok=True)
                pictures.save_png(sheet, pictures.grid(samples.images[:20], columns=20))
        copies_of = training if evaluations == AT else None
        result = evaluate(samples, test, net, other=training, training=copies_of, cache=self.runs / "statistics")
        row: dict[str, Any] = {name: metric.value for name, metric in result.metrics.items()}
        row["floor"] = result.metrics["frechet"].floor
        return {
            **row, "pictures": count, "evaluations": samples.how["network_evaluations"],
            "seconds_per_picture": seconds / count,
        }  # fmt: skip


def training_cost(preset: str, few: int = 320, many: int = 1280) -> float:
    """Seconds of one processor that training on a thousand images takes: what a longer run costs beyond a shorter one.

    Processor time, since a clock would also count what other programs do meanwhile.
    """
    from sfumato.cli import main

    spent = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for images in (few, many):
            started = time.process_time()
            settings = ["--train.images", str(images), "--train.threads", "1", "--train.preview-images", "0",
                        "--train.validation-images", "0"]  # fmt: skip
            if main(["train", preset, *settings, "--out", f"{folder}/{images}"]):
                raise ChildProcessError(f"training {preset} did not finish")
            spent.append(time.process_time() - started)
    return 1000 * (spent[1] - spent[0]) / (many - few)


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).strip("-").replace("--", "-")


def _bound(model: Model, test: Images) -> dict[str, float]:
    if isinstance(model.recipe, Nonequilibrium):
        k = k_of(model, test, limit=HELD_OUT)
        if k.bits_per_dim is None:
            raise ValueError("K of data that are no grey levels is not in bits/dim")
        return {"bits": k.bits_per_dim, "error": k.standard_error * k.pixels / k.dims}
    if not isinstance(model.recipe, Bounded):
        raise ValueError("it has no decoder and so no variational bound")
    report = bound_of(model, test, limit=HELD_OUT)
    return {"bits": report.bits_per_dim, "error": report.standard_error}


def _flow(model: Model, test: Images) -> dict[str, float]:
    report = flow_likelihood(model, test, limit=HELD_OUT)
    return {"bits": report.bits_per_dim, "error": report.standard_error}
