"""A trained model as a user meets it: seeds, batches, classes, frames, files, and what `load` refuses.

A tiny network with random weights stands in for a trained one; every promise here is independent of the weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato import papers
from sfumato.model import Guide, Model, ancestral, ddim_sampler, load, shipped
from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.recipe import Classifying
from sfumato.runtime import checkpoint

RECIPE = DDPM(
    shape=(1, 8, 8), channels=32, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0, steps=20, classes=3
)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = RECIPE.model().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Model(RECIPE, network.requires_grad_(False), ("cat", "dog", "hat"))


@pytest.mark.parametrize("sampler", [ddim_sampler(), ddim_sampler(1.0), ancestral])
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


def test_frames_are_the_whole_walk(model: Model) -> None:
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
    again = load(path)
    assert again.recipe == RECIPE
    assert again.classes == model.classes
    assert torch.equal(again.sample(2, steps=3), model.sample(2, steps=3))


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
    assert shipped()[name].stat().st_size <= 8_000_000
    ready = load(name)
    if isinstance(ready.recipe, Classifying):
        logits = ready.recipe.classify(ready.network)(torch.zeros(2, *ready.recipe.shape), torch.tensor(1))
        assert logits.shape == (2, len(ready.classes))
        return
    images = ready.sample(2, steps=25)
    assert images.shape == (2, *ready.recipe.shape)
    assert images.float().std() > 10


# ---------------------------------------------------------------- guidance and upsampling

GUIDED = ADM(shape=(1, 8, 8), classes=3, label_dropout=0.1, channels=32, multipliers=(1, 2), blocks=1, attention=(2,),
             head_channels=32, steps=20)  # fmt: skip
CLASSIFIER = NoisyClassifier(shape=(1, 8, 8), classes=3, channels=32, multipliers=(1, 2), blocks=1, attention=(2,),
                             head_channels=32, steps=20)  # fmt: skip


def small_images(n: int, side: int) -> torch.Tensor:
    return torch.zeros(n, 1, side, side, dtype=torch.uint8)


def made(recipe: Any) -> Model:
    """A model with random weights."""
    torch.manual_seed(0)
    network = recipe.model().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Model(recipe, network.requires_grad_(False), ("cat", "dog", "hat") if recipe.classes else ())


@pytest.mark.parametrize("sampler", [ddim_sampler(), ancestral])
@pytest.mark.parametrize("recipe", [GUIDED, replace(GUIDED, classes=0, label_dropout=0.0)])
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
    model = made(replace(GUIDED, low_res=4))
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
        (lambda: made(RECIPE).sample(1, guide=Guide(made(RECIPE))), "no classifier"),
        (lambda: made(RECIPE).sample(1, guide=Guide(made(CLASSIFIER))), "other noise levels"),
        (lambda: made(GUIDED).sample(1, guide=Guide(made(replace(CLASSIFIER, shape=(1, 16, 16))))), "sees"),
        (lambda: made(GUIDED).sample(1, guide=Guide(made(replace(CLASSIFIER, steps=30)))), "other noise levels"),
        (lambda: made(GUIDED).sample(1, guide=Guide(Model(CLASSIFIER, made(CLASSIFIER).network, ("a", "b", "c")))),
         "other classes"),
        (lambda: made(CLASSIFIER).sample(1), "makes no pictures"),
        (lambda: made(GUIDED).sample(1, low_res=small_images(1, 4)), "no upsampler"),
        (lambda: made(replace(GUIDED, low_res=4)).sample(1), "low_res"),
        (lambda: made(replace(GUIDED, low_res=4)).sample(1, low_res=small_images(1, 5)), "1x5x5"),
        (lambda: made(replace(GUIDED, low_res=4)).sample(2, low_res=small_images(1, 4)), "given"),
    ],
)  # fmt: skip
def test_what_cannot_be_guided_or_enlarged_is_said_before_any_work(ask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
