"""Latent diffusion from data to decoded pictures: one file, scaled, cached, resumed bit for bit, decoded by itself."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import distilling, hub, papers
from sfumato.conditioning import Labels
from sfumato.convert.onnx.graphs import Decode, graph
from sfumato.core.randomness import ImageNoise
from sfumato.cost.inspection import Plan, costs
from sfumato.cost.network import forward_flops
from sfumato.data import Images, open_source
from sfumato.data.loader import to_float
from sfumato.fitting import prepare
from sfumato.inverse import MeanPool
from sfumato.likelihood import ode_likelihood
from sfumato.models import Autoencoder, Model, load, load_autoencoder, load_classifier, load_model
from sfumato.models.editing import Editor
from sfumato.models.first_stage import first_stage, measured
from sfumato.models.restoration import restore
from sfumato.networks.autoencoder import AutoencoderNet, ConvAutoencoder
from sfumato.networks.unet import HoUNet
from sfumato.papers.autoencoder import ImageAutoencoder
from sfumato.papers.continuous import ContinuousDDPM
from sfumato.papers.ddpm import DDPM
from sfumato.papers.edm import EDM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.mean_flow import MeanFlow
from sfumato.papers.mixed import MixedDDPM
from sfumato.papers.shortcut import Shortcut
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.spaces import Latents, Pixels, Space
from sfumato.spaces.latents import BESIDE, BoundLatents, frozen
from sfumato.train.moments import encoded_once

STAGE = ImageAutoencoder((1, 8, 8), ConvAutoencoder(8, (1, 2), blocks=1, latent=2))
UNET = HoUNet(8, (1, 2), blocks=1, attention=(2,), dropout=0.0)
SHORT: dict[str, Any] = {"batch": 8, "ema": (0.9,), "validation_images": 8, "preview_images": 2, "preview_steps": 2,
                         "profiles": (), "precision": "float32"}  # fmt: skip


def recipe(of: Path | str, **more: Any) -> DDPM:
    return DDPM((1, 8, 8), UNET, Labels(10), Latents(str(of)), steps=20, **more)


def trained(what: Any, images: Images, out: Path, count: int) -> None:
    prepare(what, images, TrainConfig(images=count, **SHORT), {"preset": "x", "data": "digits"}).run(out, quiet=True)


@pytest.fixture(scope="module")
def digits() -> Images:
    return open_source("digits?limit=40")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, digits: Images) -> Path:
    out = tmp_path_factory.mktemp("runs") / "stage"
    trained(STAGE, digits, out, 64)
    return out


@pytest.fixture(scope="module")
def run(stage: Path, digits: Images) -> Path:
    out = stage.with_name("latent")
    trained(recipe(stage), digits, out, 64)
    return out


def test_latents_have_mean_0_and_variance_1(run: Path, digits: Images) -> None:
    model = load_model(run)
    x = model.space.encode(to_float(digits.images), ImageNoise(0, range(40)))
    assert x.shape == (40, 2, 4, 4)
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5)


def test_the_scale_of_the_autoencoder_does_not_matter(stage: Path, digits: Images) -> None:
    """Latents times 7: encoder and decoder that say the same in other units make the same space."""
    net, other = load_autoencoder(stage).net, load_autoencoder(stage).net
    with torch.no_grad():
        ends: Any = other.encoder[-1], other.decoder[0]
        last, first = ends
        last.weight[:2] *= 7
        last.bias[:2] *= 7
        last.bias[2:] += 2 * torch.tensor(7.0).log()
        first.weight /= 7
    x, spaces = to_float(digits.images[:4]), []
    for some in (net, other):
        mean, std = measured(some, digits.images)
        scaled = Latents(network=STAGE.network, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
        spaces.append(BoundLatents(scaled, some))
    one, two = (space.encode(x, ImageNoise(3, range(4))) for space in spaces)
    assert torch.allclose(one, two, atol=1e-4)
    assert torch.allclose(spaces[0].decode(one), spaces[1].decode(two), atol=1e-4)
    assert spaces[1].space.std == pytest.approx([7 * value for value in spaces[0].space.std], rel=1e-4)


def test_encoding_and_decoding_are_the_autoencoders(run: Path, stage: Path, digits: Images) -> None:
    space, own = load_model(run).space, load_autoencoder(stage)
    x = digits.images[:3]
    back = space.decode(space.encode(to_float(x)))
    with torch.no_grad():
        theirs = own.net.decode(own.net.latents(own.net.moments(to_float(x))))
    assert torch.allclose(back, theirs, atol=1e-5)


def test_one_file_is_enough(run: Path, tmp_path: Path) -> None:
    """The autoencoder lies in the checkpoint; where it came from may be gone."""
    model = load_model(run)
    alone = tmp_path / "model.safetensors"
    model.save(alone)
    again = load_model(alone)
    pictures = again.sample(3, steps=3)
    assert pictures.shape == (3, 1, 8, 8)
    assert pictures.dtype == torch.uint8
    assert torch.equal(pictures, model.sample(3, steps=3))
    frames: list[Tensor] = []
    again.sample(2, steps=3, frames=frames)
    assert [tuple(f.shape) for f in frames] == [(2, 1, 8, 8)] * 4
    assert torch.equal(frames[-1], pictures[:2])


def test_previews_are_decoded(run: Path) -> None:
    rows = RunFolder.open(run).metrics("preview")
    assert rows
    assert (run / "samples" / "000000064-ema.png").is_file()


def test_the_autoencoder_is_not_trained(run: Path, stage: Path) -> None:
    saved = RunFolder.open(run).latest()
    assert saved is not None
    kept = saved.tensors(f"model/{BESIDE}.")
    for name, value in load_autoencoder(stage).net.state_dict().items():
        assert torch.equal(kept[name], value)
    assert not saved.tensors(f"optimizer/{BESIDE}")
    model = load_model(run)
    assert not [name for name, _ in model.network.named_parameters() if name.startswith(BESIDE)]


def test_halves_are_the_whole_without_the_autoencoder(stage: Path, digits: Images, tmp_path: Path) -> None:
    """Interrupted in the middle, and gone on with bit for bit after the autoencoder's own run is gone."""
    own, said = tmp_path / "own", {"preset": "x", "data": "digits"}
    shutil.copytree(stage, own)
    settings = TrainConfig(images=48, decay="constant", log_every=0.1, **{**SHORT, "preview_images": 0})
    prepare(recipe(own), digits, settings, said).run(tmp_path / "whole", quiet=True)

    def watch(row: Any) -> bool:
        return bool(row["kind"] == "train" and row["images"] >= 24)

    first = prepare(recipe(own), digits, settings, said)
    first.run(tmp_path / "halves", quiet=True, watch=[watch])
    shutil.rmtree(own)
    half = RunFolder.open(tmp_path / "halves").latest()
    assert half is not None
    assert 0 < half.progress["images"] < 48
    prepare(papers.from_json(half.recipe), digits, settings, said, resume=tmp_path / "halves").run(
        tmp_path / "halves", resume=True, quiet=True
    )
    whole, halves = (RunFolder.open(tmp_path / name).latest() for name in ("whole", "halves"))
    assert whole is not None
    assert halves is not None
    assert whole.progress["images"] == halves.progress["images"] == 48
    theirs = halves.tensors("model/")
    assert all(torch.equal(value, theirs[name]) for name, value in whole.tensors("model/").items())


def test_killed_before_its_first_checkpoint_it_takes_the_autoencoder_again(
    stage: Path, digits: Images, tmp_path: Path
) -> None:
    own, out, said = tmp_path / "own", tmp_path / "run", {"preset": "x", "data": "digits"}
    shutil.copytree(stage, own)
    settings = TrainConfig(images=16, **{**SHORT, "preview_images": 0})
    prepare(recipe(own), digits, settings, said).run(out, quiet=True)
    whole = RunFolder.open(out).latest()
    assert whole is not None
    tensors = whole.tensors("model/")
    assert sorted(path.name for path in (out / "checkpoints").iterdir())[0] == "000000000.safetensors"
    shutil.rmtree(out / "checkpoints")  # as a kill before the first of them leaves it
    prepare(papers.from_json(whole.recipe), digits, settings, said, resume=out).run(out, resume=True, quiet=True)
    again = RunFolder.open(out).latest()
    assert again is not None
    assert all(torch.equal(value, tensors[name]) for name, value in again.tensors("model/").items())
    shutil.rmtree(out / "checkpoints")
    shutil.rmtree(own)
    with pytest.raises(ValueError, match=r"before its first checkpoint, and cannot begin once more: .*no such"):
        prepare(papers.from_json(whole.recipe), digits, settings, said, resume=out)
    trained(STAGE, digits, own, 8)
    with pytest.raises(ValueError, match="the autoencoder has other weights now"):
        prepare(papers.from_json(whole.recipe), digits, settings, said, resume=out)


def test_what_is_kept_is_what_would_be_encoded(run: Path, digits: Images) -> None:
    model = load_model(run)
    settings = TrainConfig(images=8, **SHORT)
    kept = encoded_once(model.recipe, model.network, digits, settings)
    assert kept.moments is not None
    x, y, t = to_float(digits.images[:4]), digits.labels, torch.tensor([1, 5, 10, 20])
    assert y is not None
    live, stored = (
        model.diffusion.loss(model.network, x, t, ImageNoise(0, range(4)), y=y[:4], **given)
        for given in ({}, {"moments": kept.moments[:4]})
    )
    assert torch.allclose(live, stored, atol=1e-5)
    assert encoded_once(model.recipe, model.network, digits, replace(settings, flip=True)).moments is None


def test_editing_starts_and_ends_in_pixels(run: Path, digits: Images) -> None:
    model = load_model(run)
    assert isinstance(model, Model)
    labels = digits.labels
    assert labels is not None
    editor = Editor(model, 4, labels[:2])
    assert editor.encode(digits.images[:2]).shape == (2, 2, 4, 4)
    assert editor.reconstruct(digits.images[:2])[0].shape == (2, 1, 8, 8)


def test_guidance_needs_no_pixels_but_thresholding_does(stage: Path, digits: Images) -> None:
    what = replace(recipe(stage), conditioning=Labels(10, 0.1))
    space, beside = first_stage(Latents(str(stage)), digits.images)
    what = replace(what, space=space)
    network = what.model().eval()
    network.load_state_dict({**network.state_dict(), **beside})
    model = Model(what, network, digits.classes)
    assert model.sample(2, steps=2, scale=2.0).shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match="thresholding needs pixels"):
        model.sample(2, steps=2, guidance="threshold?scale=2")


def test_what_latents_cannot_do_is_refused_in_one_line(run: Path, stage: Path, digits: Images) -> None:
    model = load_model(run)
    with pytest.raises(ValueError, match="a likelihood needs a model of pixels"):
        ode_likelihood(model, digits)
    with pytest.raises(ValueError, match="restoring needs a model of pixels"):
        restore(model, digits.images[:1, :, ::2, ::2], MeanPool(2), labels=torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="autoencoder, which makes no pictures"):
        load_model(stage)
    with pytest.raises(ValueError, match="is an autoencoder; a guide is"):
        load_classifier(stage)
    with pytest.raises(ValueError, match="is no autoencoder; train one"):
        load_autoencoder(run)


def test_what_does_not_fit_is_refused_before_any_work(stage: Path, digits: Images, tmp_path: Path) -> None:
    settings = TrainConfig(images=8, **SHORT)
    for of, message in (
        ("", "needs an autoencoder: --recipe.space"), (str(tmp_path / "none"), "no such run folder"),
        ("ddpm/fashion", "nor a model of latents"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            prepare(recipe(of), digits, settings, {})
    with pytest.raises(ValueError, match="is an autoencoder of 1 channels, these images have 3"):
        prepare(recipe(stage), open_source("emoji32:test?limit=4"), settings, {})
    with pytest.raises(ValueError, match="latents are of pictures"):
        prepare(recipe(stage), open_source("signals?limit=4"), settings, {})
    with pytest.raises(ValueError, match="sides that it divides, not 9 x 9"):
        prepare(recipe(stage), open_source("digits:test?limit=4&size=9"), settings, {})
    with pytest.raises(ValueError, match="a mean and a deviation for each of 2 channels"):
        Latents(network=STAGE.network, mean=(0.0,), std=(1.0,))


def test_a_model_of_latents_gives_its_autoencoder_on(run: Path, digits: Images) -> None:
    space, beside = first_stage(Latents(str(run)), digits.images)
    assert space.network == STAGE.network
    assert set(beside) == {f"{BESIDE}.{name}" for name in STAGE.model().state_dict()}


def test_a_student_keeps_the_latents_of_its_teacher(run: Path, digits: Images, tmp_path: Path) -> None:
    teacher: Any = load_model(run)
    plan = distilling.Plan(str(run), 4, 2, 1.0, "digits", None, TrainConfig(images=8, **SHORT))
    distilling.prepared(teacher, str(run), plan, 2, digits, {}, None).run(tmp_path, quiet=True)
    student: Any = load_model(tmp_path)
    assert (student.recipe.space, student.sample(2).shape) == (teacher.recipe.space, (2, 1, 8, 8))
    for name, value in teacher.network.state_dict().items():
        assert not name.startswith(BESIDE) or torch.equal(student.network.state_dict()[name], value)


def test_a_folder_for_a_hub(run: Path, stage: Path, tmp_path: Path) -> None:
    hub.give(load_model(run), tmp_path / "given", str(run), count=4, say=lambda line: None)
    again = load(tmp_path / "given")
    assert isinstance(again, Model)
    assert again.sample(1, steps=2).shape == (1, 1, 8, 8)
    hub.give(load(stage), tmp_path / "stage", str(stage), say=lambda line: None)
    assert isinstance(load(tmp_path / "stage"), Autoencoder)
    assert "latents?of=THIS_FOLDER" in (tmp_path / "stage" / "README.md").read_text()


def test_a_graph_decodes(run: Path) -> None:
    """decode.onnx holds the autoencoder's decoder, and says what the model's space says."""
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    import onnxruntime

    model, x = load_model(run), torch.randn(3, 2, 4, 4)
    content = graph(Decode(model.space, model.network), {"x": x}, ["image"])
    (image,) = onnxruntime.InferenceSession(content).run(None, {"x": x.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(image), model.space.decode(x), atol=1e-4)


def test_what_it_costs_is_counted(run: Path, stage: Path) -> None:
    latent, of_stage = load_model(run).recipe, load_autoencoder(stage).recipe
    assert 0 < forward_flops(latent) < forward_flops(replace(latent, space=Pixels()))
    assert forward_flops(of_stage) > 0
    assert "reconstructing" in "\n".join(costs(of_stage, None, Plan(batch=2), False))


def test_freezing_keeps_what_a_module_computes() -> None:
    net = STAGE.model()
    assert isinstance(net, AutoencoderNet)
    x = torch.randn(2, 1, 8, 8)
    before, names = net(x).image, set(net.state_dict())
    frozen(net)
    assert not list(net.parameters())
    assert set(net.state_dict()) == names
    assert torch.equal(net(x).image, before)


def test_pixels_need_nothing_beside() -> None:
    network = UNET.build((1, 8, 8), 1)
    space = Space()
    assert space.bound(network) is space
    assert space.attach(network, (1, 8, 8)) is network


@pytest.mark.parametrize("recipe", [ContinuousDDPM, MixedDDPM, MeanFlow, Shortcut, FlowMatching, EDM])
def test_recipes_have_the_channels_of_the_latents(recipe: Any) -> None:
    space = Latents(network=replace(STAGE.network, latent=2), mean=(0.0, 0.0), std=(1.0, 1.0))
    made = recipe((1, 8, 8), network=UNET, space=space)
    torch.manual_seed(0)
    model, t = Model(made, made.model().eval()), torch.tensor([0.4, 0.6])
    levels = torch.tensor([300, 700]) if recipe is MixedDDPM else t
    assert (made.build().loss(model.network, torch.rand(2, 1, 8, 8), levels) > 0).any()
    first = model.sample(2, seed=3)
    autoencoder = model.network.get_submodule("autoencoder")
    for value in autoencoder.buffers():
        value.mul_(1.5)
    assert not torch.equal(first, model.sample(2, seed=3))  # the pictures are what the decoder makes
