"""Multi-label conditioning: the sum of embeddings, what is hidden, how attributes are asked for, a run with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato
from sfumato import papers
from sfumato.cli import main
from sfumato.conditioning import Attributes, Augmented, Labels, Together
from sfumato.core.randomness import ImageNoise
from sfumato.data import open_source
from sfumato.data.attributes import Attributed
from sfumato.fitting import fit_to_data
from sfumato.models import Model, load
from sfumato.models.guidance import Given, Guidance, NegativeClass
from sfumato.networks.backbone import Embedded
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.train.initial import Initial, fitted
from tests.data.test_attribute_tables import stripes

NAMES = ("left", "bright", "round")
TWO = Attributes(0.25, names=NAMES)
NONE = Guidance(scale=1.0)
NETWORK = HoUNet(channels=32, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0)


def rows(n: int) -> torch.Tensor:
    return torch.randint(0, 2, (n, 3), generator=torch.Generator().manual_seed(1)).mul(2).sub(1).to(torch.int8)


def test_what_the_network_is_given_is_linear_in_the_attributes() -> None:
    """Present ones add their embedding, absent ones take it away, unknown ones add nothing: zeros are unconditional."""
    recipe = DDPM((1, 8, 8), NETWORK, TWO)
    net: Any = recipe.model().eval()
    with torch.no_grad():
        net.numbers_embedding.weight.normal_(generator=torch.Generator().manual_seed(0))
    t, a = torch.full((4,), 3.0), torch.tensor([[1, 1, -1], [1, 0, 0], [0, 1, 0], [0, 0, -1]])
    e = net.numbers_embedding(TWO.told(a)["numbers"])
    assert torch.allclose(e[0], e[1] + e[2] + e[3], atol=1e-5)
    assert torch.equal(net.condition(t, None, torch.zeros(4, 3)), net.condition(t))


def test_sets_are_hidden_whole_and_single_ones_besides_image_by_image() -> None:
    a, x = rows(4000), torch.zeros(4000, 1, 8, 8)
    seen = TWO.training(x, {"attributes": a}, ImageNoise(0, range(4000)))["numbers"]
    whole = (seen == 0).all(1)
    assert float(whole.double().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(seen[~whole], a[~whole].float())
    alone = TWO.training(x[:1], {"attributes": a[7:8]}, ImageNoise(0, [7]))["numbers"]
    assert torch.equal(alone, seen[7:8])
    some = Attributes(0.0, 0.5, NAMES).training(x, {"attributes": a}, ImageNoise(0, range(4000)))["numbers"] == 0
    assert float(some.double().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(some.all(1).double().mean()) == pytest.approx(0.125, abs=0.03), "each by a chance of its own"
    plain = Attributes(0.0, names=NAMES).training(x, {"attributes": a}, torch.randn_like)
    assert torch.equal(plain["numbers"], a.float())


def test_words_and_what_is_left_open() -> None:
    assert TWO.row("left,-bright") == (1, -1, -1), "what is not named is absent"
    assert TWO.row("left=?, bright=1,round=0") == (0, 1, -1)
    assert Attributes(0.1, 0.1, NAMES).row("bright") == (0, 1, 0), "or open, where single ones were hidden"
    for words, said in (("lft", "did you mean left"), ("left=2", "NAME=0"), ("left,-left", "for and against")):
        with pytest.raises(ValueError, match=said):
            TWO.row(words)
    with pytest.raises(ValueError, match="without attributes"):
        Labels(2).row("left")
    with pytest.raises(ValueError, match="trained with attributes"):
        Attributes(0.0, names=NAMES).told(None)
    with pytest.raises(ValueError, match="named twice"):
        Attributes(names=("a", "a"))


def test_together_with_labels_and_augmentation() -> None:
    both = Together((Labels(3, 0.1), Augmented(), TWO))
    assert both.embedded((1, 8, 8), Embedded()) == Embedded(labels=4, numbers=12)
    assert (both.names, both.numbers, both.row("bright"), len(both.numbered())) == (NAMES, 12, (-1, 1, -1), 12)
    a, x, y = rows(5), torch.zeros(5, 1, 8, 8), torch.zeros(5).long()
    numbers = torch.randn(5, 9)
    given = both.training(x, {"y": y, "attributes": a, "numbers": numbers}, ImageNoise(3, range(5)))
    seen = Together((Labels(3, 0.1), TWO)).training(x, {"y": y, "attributes": a}, ImageNoise(3, range(5)))
    assert torch.equal(given["numbers"], torch.cat([numbers, seen["numbers"]], dim=1))
    asked = {**both.inputs(y), **both.told(a)}
    assert torch.equal(asked["numbers"], torch.cat([torch.zeros(5, 9), a.float()], dim=1)), "unaugmented"
    hidden = both.hidden(asked)
    assert not hidden["numbers"].any()
    assert (hidden["y"] == 3).all()
    with pytest.raises(ValueError, match="single time"):
        Together((TWO, TWO))


def test_a_recipe_with_attributes_goes_through_json_and_takes_names_from_the_data(tmp_path: Path) -> None:
    recipe = DDPM((1, 8, 8), NETWORK, Together((Labels(3), Attributes(0.2, 0.1))))
    images = stripes(tmp_path)
    labelled = images.take(torch.arange(len(images)))
    fitted_to = fit_to_data(recipe, labelled)
    assert fitted_to.conditioning.names == ("left", "bright")
    assert papers.from_json(papers.to_json(fitted_to)) == fitted_to
    assert papers.part_of("conditioning", "attributes?dropout=0.2&unknown=0.1") == Attributes(0.2, 0.1)
    with pytest.raises(ValueError, match="data have no attributes"):
        fit_to_data(recipe, open_source("digits"))
    with pytest.raises(ValueError, match="unknown attribute 'left'; did you mean lift"):
        fit_to_data(DDPM((1, 8, 8), NETWORK, Attributes(names=("lift",))), images)


def test_fine_tuning_keeps_the_embeddings_of_the_same_names() -> None:
    old = DDPM((1, 8, 8), NETWORK, Together((Augmented(), TWO)))
    new = DDPM((1, 8, 8), NETWORK, Attributes(names=("round", "new", "left")))
    held = old.model().state_dict()
    held["numbers_embedding.weight"] = torch.randn_like(held["numbers_embedding.weight"])
    shapes = {name: tuple(value.shape) for name, value in new.model().state_dict().items()}
    made = fitted(Initial(old, held, (), {}), new, shapes).tensors["numbers_embedding.weight"]
    columns = held["numbers_embedding.weight"][:, 9:]
    assert torch.equal(made, torch.stack([columns[:, 2], torch.zeros(len(made)), columns[:, 0]], dim=1))


def test_guidance_exaggerates_what_is_asked_for() -> None:
    recipe = DDPM((1, 8, 8), NETWORK, TWO)
    model = Model(recipe, recipe.model().eval())
    with torch.no_grad():
        for p in model.network.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    x, t, a = torch.randn(2, 1, 8, 8), torch.tensor(500), torch.tensor([[1, -1, -1]] * 2)

    def eps(attributes: torch.Tensor | None, guidance: Guidance = NONE) -> torch.Tensor:
        return guidance.unclipped(model, model.network, Given(attributes=attributes))(x, t).eps

    free, plain, other = eps(None), eps(a), eps(torch.tensor([[-1, 1, -1]] * 2))
    assert not torch.allclose(free, plain, atol=1e-5)
    assert torch.allclose(eps(a, Guidance(scale=2.0)), 2 * plain - free, atol=1e-4)
    assert torch.allclose(eps(a, NegativeClass(scale=2.0, negative="bright")), 2 * plain - other, atol=1e-4)
    with pytest.raises(ValueError, match="none are asked for"):
        model.sample(2, steps=2, scale=2.0)
    with pytest.raises(ValueError, match="3 attributes"):
        model.sample(2, steps=2, attributes=torch.zeros(2, 2))


def trained(root: Path, images: int) -> Model:
    """A model of the stripes, trained on so many images."""
    return sfumato.fit(
        stripes(root / "set"), "ddpm/digits", out=root / "run", images=images, batch=16, threads=1, quiet=True,
        preview_images=2, profiles=(), validation_images=0, preview_every=1.0,
        recipe={"conditioning": "attributes", "network": "ddpm-unet?channels=32&multipliers=1,2&blocks=1&dropout=0"},
    )  # fmt: skip


WORDS = ["left,bright", "left=0,bright", "left,-bright", "left=0,bright=0"]


def test_the_command_asks_for_them(tmp_path: Path) -> None:
    model, run, out = trained(tmp_path, 32), tmp_path / "run", tmp_path / "out"
    first, second = (model.sample(3, steps=2, attributes=WORDS, batch=b, precision="float32") for b in (1, 64))
    assert torch.equal(first, second)
    assert load(run).recipe.conditioning == Attributes(names=("left", "bright"))
    assert main(["sample", str(run), "-n", "2", "--steps", "2", "--attributes", "left,-bright", "--out", str(out)]) == 0
    assert main(["sample", str(run), "-n", "2", "--attributes", "lft", "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_a_run_learns_them(tmp_path: Path) -> None:
    """Trained on two brightnesses and two forms, a model makes what is asked for."""
    made = trained(tmp_path, 6_000).sample(16, attributes=WORDS, seed=2, scale=1.5).float()
    right, left = made[..., 4:].mean((1, 2, 3)), made[..., :4].mean((1, 2, 3))
    level = left.view(4, 4).mean(0)
    assert float(level[:2].min()) > float(level[2:].max()) + 60, "bright or not"
    share = (right / left).view(4, 4).mean(0)
    assert float(share[[0, 2]].max()) < 0.5 < float(share[[1, 3]].min()), "the left half alone or not"


def test_attributes_of_arrays() -> None:
    has = Attributed.of({"a": [1, 0, 0, 1], "b": [True, True, False, False]}, 4)
    assert has.values.tolist() == [[1, 1], [-1, 1], [-1, -1], [1, -1]]
    assert has.take(torch.tensor([3])).values.tolist() == [[1, -1]]
    with pytest.raises(ValueError, match="1 or 0 for each of 4"):
        Attributed.of({"a": [1, 2, 0, 1]}, 4)
