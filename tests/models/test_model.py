"""A trained model as a user meets it: seeds, batches, classes, frames, files, and what `load` refuses.

A tiny network with random weights stands in for a trained one; every promise here is independent of the weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import papers
from sfumato.conditioning import Labels, LowRes, Together, Unconditional
from sfumato.models import Classifier, Guide, Model, load, load_classifier, load_model, shipped
from sfumato.networks.classifier import Encoder
from sfumato.networks.unet import ADMUNet, HoUNet
from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.runtime import checkpoint
from sfumato.samplers import DDIM
from tests.models import small

UNET: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "dropout": 0.0}
RECIPE = DDPM((1, 8, 8), HoUNet(**UNET), Labels(3), steps=20)
NAMES = ("cat", "dog", "hat")


def made(recipe: Any) -> Any:
    """A model or a classifier with random weights."""
    return small.made(recipe, NAMES if recipe.conditioning.classes else ())


@pytest.fixture(scope="module")
def model() -> Model:
    found: Model = made(RECIPE)
    return found


@pytest.mark.parametrize("sampler", ["ddim", DDIM(1.0), "own", "heun?churn=5", "dpmpp-2m"])
def test_batch_one_equals_batch_eight(model: Model, sampler: object) -> None:
    options = {"steps": 5, "sampler": sampler, "seed": 3, "precision": "float32"}
    together = model.sample(8, batch=8, **options)  # type: ignore[arg-type]
    alone = model.sample(8, batch=1, **options)  # type: ignore[arg-type]
    assert (together.int() - alone.int()).abs().max() <= 1  # to rounding
    assert together.shape == (8, 1, 8, 8)
    assert together.dtype == torch.uint8


def test_the_first_images_do_not_depend_on_how_many_follow(model: Model) -> None:
    few = model.sample(2, steps=3, classes=["cat", "dog"], precision="float32")
    many = model.sample(6, steps=3, classes=["cat", "dog"], precision="float32")
    assert (few.int() - many[:2].int()).abs().max() <= 1


def test_seeds_differ_and_repeat(model: Model) -> None:
    first, again, other = (model.sample(2, steps=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_frames_are_the_whole_trajectory(model: Model) -> None:
    frames: list[torch.Tensor] = []
    images = model.sample(3, steps=4, batch=2, frames=frames)
    assert len(frames) == 5
    assert all(frame.shape == (3, 1, 8, 8) for frame in frames)
    assert torch.equal(frames[-1], images)


def test_classes_by_name_and_number(model: Model) -> None:
    assert model.labels(["hat", 0], 3).tolist() == [2, 0, 2]  # type: ignore[union-attr]
    assert model.labels(None, 4).tolist() == [0, 1, 2, 0]  # type: ignore[union-attr]
    for wrong in ("tree", 3, "-1"):
        with pytest.raises(ValueError, match="cat, dog, hat"):
            model.labels([wrong], 1)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.tensor([0, 1]), "not \\(2,\\) int64"),
        (torch.tensor([0, 1, 3]), "run from 0 to 2, so 3 is none"),  # the null label of a network with dropout
        (torch.tensor([0, -1, 1]), "run from 0 to 2, so -1 is none"),
        (torch.zeros(3), "float32"),
        (torch.zeros(3, 1, dtype=torch.long), "not \\(3, 1\\) int64"),
    ],
)
def test_labels_are_checked_before_any_work(labels: Tensor, words: str) -> None:
    """Of a model with a null label and without, and of one that a classifier guides."""
    hiding, free = replace(RECIPE, conditioning=Labels(3, 0.1)), replace(GUIDED, conditioning=Unconditional())
    asked: list[tuple[Model, Guide | None]] = [
        (made(RECIPE), None), (made(hiding), None), (made(free), Guide(made(CLASSIFIER))),
    ]  # fmt: skip
    for model, guide in asked:
        with pytest.raises(ValueError, match=words):
            model.sample(3, steps=2, classes=labels, guide=guide, progress=lambda _: pytest.fail("a step was made"))
    with pytest.raises(ValueError, match="trained without classes, so none can be asked for"):
        made(free).sample(3, steps=2, classes=labels)


@pytest.mark.parametrize("steps", [0, 21])
def test_steps_outside_are_refused(model: Model, steps: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 20"):
        model.sample(1, steps=steps)


def test_none_takes_every_level(model: Model) -> None:
    frames: list[torch.Tensor] = []
    model.sample(1, steps=None, frames=frames)
    assert len(frames) == 21


def test_a_checkpoint_gives_the_same_pictures(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    about = {"recipe": papers.to_json(RECIPE), "data": {"classes": model.classes}, "progress": {"images": 5}}
    tensors = {f"model/{name}": value for name, value in model.network.state_dict().items()}
    checkpoint.save(path, tensors, about)
    again = load_model(path)
    assert again.recipe == RECIPE
    assert again.classes == model.classes
    assert torch.equal(again.sample(2, steps=3), model.sample(2, steps=3))


def test_a_saved_model_names_no_folder_of_the_machine(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "first.safetensors")
    again = load_model(tmp_path / "first.safetensors")
    assert again.about["path"] == str(tmp_path / "first.safetensors")
    again.save(tmp_path / "second.safetensors")
    said = checkpoint.read(tmp_path / "second.safetensors").about
    assert said["origin"] == {"path": "first.safetensors", "found": None, "weights": "online"}
    assert str(tmp_path) not in str(said)


def test_load_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such run folder"):
        load(tmp_path / "nothing")
    pickle = tmp_path / "evil.pt"
    pickle.write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(ValueError, match="pickle"):
        load(pickle)
    (tmp_path / "empty.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        load(tmp_path / "empty.safetensors")
    with pytest.raises(ValueError, match=r"config\.json"):
        load(tmp_path)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_models_sample(name: str) -> None:
    assert shipped()[name].stat().st_size <= (12_000_000 if name == "ddpm/emoji128" else 8_000_000)
    ready = load(name)
    if isinstance(ready, Classifier):
        logits = ready.classify(torch.zeros(2, *ready.recipe.shape), torch.tensor(1))
        assert logits.shape == (2, len(ready.classes))
        return
    images = ready.sample(2, steps=25)
    assert images.shape == (2, *ready.recipe.shape)
    assert images.float().std() > 10


# ---------------------------------------------------------------- guidance and upsampling

GUIDED = ADM((1, 8, 8), ADMUNet(**UNET, head_channels=32), Labels(3, 0.1), steps=20)
CLASSIFIER = NoisyClassifier((1, 8, 8), Encoder(**UNET, head_channels=32), Labels(3), steps=20)
ENLARGING = replace(GUIDED, conditioning=Together((Labels(3, 0.1), LowRes(4))))


def small_images(n: int, side: int) -> torch.Tensor:
    return torch.zeros(n, 1, side, side, dtype=torch.uint8)


@pytest.mark.parametrize("sampler", ["ddim", "own", "heun"])
@pytest.mark.parametrize("recipe", [GUIDED, replace(GUIDED, conditioning=Unconditional())])
def test_a_classifier_guides_models_with_and_without_labels(recipe: Any, sampler: Any) -> None:
    model, guide = made(recipe), Guide(made(CLASSIFIER), scale=30.0)
    options: dict[str, Any] = {"steps": 4, "sampler": sampler, "classes": ["hat"], "precision": "float32"}
    plain = model.sample(3, **{**options, "classes": None})
    guided = model.sample(3, guide=guide, **options)
    assert guided.shape == plain.shape
    assert not torch.equal(guided, plain)
    alone = model.sample(3, guide=guide, batch=1, **options)
    assert (guided.int() - alone.int()).abs().max() <= 1


def test_free_guidance_changes_the_pictures() -> None:
    model = made(GUIDED)
    one, four = (model.sample(2, steps=4, scale=s, classes=["dog"], precision="float32") for s in (1.0, 4.0))
    assert not torch.equal(one, four)


def test_an_upsampler_enlarges() -> None:
    model = made(ENLARGING)
    small = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    large = model.sample(3, steps=3, low_res=small, batch=2, precision="float32")
    other = model.sample(3, steps=3, low_res=255 - small, batch=2, precision="float32")
    assert large.shape == (3, 1, 8, 8)
    assert not torch.equal(large, other)


def test_predictions_are_collected_along_the_way() -> None:
    predictions: list[torch.Tensor] = []
    images = made(RECIPE).sample(2, steps=4, predictions=predictions, precision="float32")
    assert len(predictions) == 5
    assert torch.equal(predictions[-1], images)  # the last move goes straight to the prediction


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: made(RECIPE).sample(1, scale=2.0), "label dropout"),
        (lambda: made(RECIPE).sample(1, guide=Guide(made(CLASSIFIER))), "other noise levels"),
        (lambda: made(GUIDED).sample(1, guide=Guide(made(replace(CLASSIFIER, shape=(1, 16, 16))))), "sees"),
        (lambda: made(GUIDED).sample(1, guide=Guide(made(replace(CLASSIFIER, steps=30)))), "other noise levels"),
        (lambda: made(GUIDED).sample(1, guide=Guide(Classifier(CLASSIFIER, made(CLASSIFIER).network, ("a", "b", "c")))),
         "other classes"),
        (lambda: made(RECIPE).sample(1, steps=5, sampler="huen"), "did you mean heun"),
        (lambda: made(RECIPE).sample(1, steps=5, sampler="euler-ode"), "separate noise levels"),
        (lambda: made(small.OF_2015["bits"]).sample(1, sampler="heun"), "2015"),
        (lambda: made(GUIDED).sample(1, low_res=small_images(1, 4)), "no upsampler"),
        (lambda: made(ENLARGING).sample(1), "low_res"),
        (lambda: made(ENLARGING).sample(1, low_res=small_images(1, 5)), "1x5x5"),
        (lambda: made(ENLARGING).sample(2, low_res=small_images(1, 4)), "given"),
    ],
)  # fmt: skip
def test_what_cannot_be_guided_or_enlarged_is_said_before_any_work(ask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()


def test_a_model_and_a_classifier_are_told_apart_once(model: Model, tmp_path: Path) -> None:
    made(CLASSIFIER).save(tmp_path / "classifier.safetensors")
    model.save(tmp_path / "model.safetensors")
    assert isinstance(load(tmp_path / "classifier.safetensors"), Classifier)
    assert load_classifier(str(tmp_path / "classifier.safetensors")).classes == NAMES
    with pytest.raises(ValueError, match="makes no pictures"):
        load_model(tmp_path / "classifier.safetensors")
    with pytest.raises(ValueError, match="a guide is a classifier"):
        load_classifier(tmp_path / "model.safetensors")
