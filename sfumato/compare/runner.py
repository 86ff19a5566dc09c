"""Trains what is missing and scores what is not yet scored; every figure goes to one JSON file once it is known."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sfumato.compare.entries import NUMBERS, Entry, entries, presets
from sfumato.cost.network import forward_flops, parameters
from sfumato.data import Images, open_source, pictures
from sfumato.data.splits import test_split
from sfumato.evaluate.features import FeatureNet, in_domain
from sfumato.evaluate.run import evaluate
from sfumato.evaluate.samples import sampled
from sfumato.likelihood import bound_of, k_of, ode_likelihood
from sfumato.models import Guide, Model, Request, load, load_classifier, load_model
from sfumato.papers.presets import PRESETS
from sfumato.runtime.folder import RunFolder

Train = Callable[[list[str]], int]
"""What `sfumato train` does: its words -> the exit code."""

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
        train_command: what trains, as anyone would type it.
        images: the budget, training images seen.
        seeds: how many trainings of each.
        numbers: evaluations a picture at which it scores.
        pictures: how many of each it scores, up to 100 evaluations; fewer beyond.
        likelihood: whether it finds bits/dim of held-out images, by each estimator that applies.
        threads: of torch in training.
        say: told what happens.
    """

    data: str
    runs: Path
    results: Path
    train_command: Train
    images: int
    seeds: int = 1
    numbers: tuple[int, ...] = NUMBERS
    pictures: int = 500
    likelihood: bool = True
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

    def check(self) -> None:
        """ValueError where the results, or a training that is there, are of another budget."""
        seen = {self.results: self.found().get("images", self.images)}
        for preset, seed in product(presets(self.data), range(self.seeds)):
            out = self.run(preset, seed)
            if (out / "config.json").exists():
                seen[out] = RunFolder.open(out).config()["train"]["images"]
        for path, images in seen.items():
            if images != self.images:
                what = "of a budget in minutes" if images is None else f"of {images:,} images"
                raise ValueError(f"{path} is {what}, not of {self.images:,}: name other --runs for these")

    # ------------------------------------------------------------ training

    def train(self, only: str = "") -> None:
        """Train the models whose name begins with `only`; goes on where it stopped."""
        self.check()
        for seed in range(self.seeds):
            for preset in (p for p in presets(self.data) if p.startswith(only)):
                out = self.run(preset, seed)
                if (out / "report.html").exists():
                    continue
                self.say(f"training {preset}, seed {seed}")
                new = [preset, "--train.images", str(self.images), "--train.threads", str(self.threads),
                       "--train.seed", str(seed), "--out", str(out)]  # fmt: skip
                if self.train_command(["--resume", str(out)] if (out / "config.json").exists() else new):
                    raise ChildProcessError(f"training {preset} did not finish")

    # ------------------------------------------------------------ scoring

    def score(self, only: str = "", sampler: str = "") -> None:
        """Score the trained entries whose name begins with `only`, and find their likelihood.

        Args:
            sampler: the spec of one more sampler, by which every model is scored as well.
        """
        net, training = in_domain(self.data), open_source(self.data)
        test = open_source(test_split(self.data) or self.data)
        self._keep("net", value=net.distance)
        for seed in range(self.seeds):
            for preset in (p for p in presets(self.data) if p.startswith(only) and self._ready(p, seed)):
                if str(seed) not in self.found()["models"].get(preset, {}):
                    self._keep("models", preset, str(seed), value=self._facts(preset, seed, test))
            for one in (e for e in entries(self.data, sampler) if e.name.startswith(only)):
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
            "images": last["images"], "cpu_seconds_per_thousand": training_cost(preset, self.train_command),
        }  # fmt: skip
        if isinstance(model, Model) and self.likelihood:
            for name, estimate in (("bound", _bound), ("ode", _ode)):
                started = time.process_time()
                try:
                    facts[name] = estimate(model, test)
                except ValueError as reason:
                    facts[name] = {"refused": str(reason)}
                self.say(f"{preset}, {name}: {facts[name]} ({time.process_time() - started:.0f} s)")
        return facts

    def _scores(
        self, one: Entry, seed: int, evaluations: int, net: FeatureNet, training: Images, test: Images
    ) -> dict[str, Any]:
        """The measures of one entry at one number of evaluations; the reason where it cannot be sampled so."""
        count, model = pictures_at(evaluations, self.pictures), load_model(self.run(one.preset, seed))
        guide = None
        if one.classifier:
            guide = Guide(load_classifier(self.run(one.classifier, seed)), one.classifier_scale)
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


def training_cost(preset: str, train_command: Train, few: int = 320, many: int = 1280) -> float:
    """Seconds of one processor that training on a thousand images takes: what a longer run costs beyond a shorter one.

    Processor time, since a clock would also count what other programs do meanwhile.
    """
    spent = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for images in (few, many):
            started = time.process_time()
            settings = ["--train.images", str(images), "--train.threads", "1", "--train.preview-images", "0",
                        "--train.validation-images", "0"]  # fmt: skip
            if train_command([preset, *settings, "--out", f"{folder}/{images}"]):
                raise ChildProcessError(f"training {preset} did not finish")
            spent.append(time.process_time() - started)
    return 1000 * (spent[1] - spent[0]) / (many - few)


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).strip("-").replace("--", "-")


def _bound(model: Model, test: Images) -> dict[str, Any]:
    """The variational bound, or K in its units, of held-out images."""
    if model.diffusion.lower_bound is None:
        report = bound_of(model, test, limit=HELD_OUT)
        return {"bits": report.bits_per_dim, "error": report.standard_error}
    k = k_of(model, test, limit=HELD_OUT)
    if k.bits_per_dim is None:
        raise ValueError("K of data that are no grey levels is not in bits/dim")
    return {"bits": k.bits_per_dim, "error": k.details["bits_error"]}


def _ode(model: Model, test: Images) -> dict[str, Any]:
    """The likelihood of the probability-flow ODE."""
    report = ode_likelihood(model, test, limit=HELD_OUT)
    return {"bits": report.bits_per_dim, "error": report.standard_error}
