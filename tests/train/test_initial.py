"""Fine-tuning: weights taken by key and shape give the source's own function, widened ones too; a run goes on alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.cli import main
from sfumato.conditioning import Labels, Picture, Unconditional
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp
from sfumato.networks.unet import ADMUNet, HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.edm import EDM
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.train.initial import Initial, fitted
from sfumato.train.reading import compared
from sfumato.train.setup import first_state
from tests.train import toy

UNET = HoUNet(channels=16, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0)
BASE = DDPM((1, 8, 8), UNET, prediction="v", betas="cosine", steps=40)
SONG: dict[str, Any] = {"channels": 8, "multipliers": (1, 1), "blocks": 1, "attention": ()}
NAMES = ("cat", "dog", "fox")


def trained(recipe: Any) -> nn.Module:
    """The recipe's network with weights that are all random, as after training."""
    torch.manual_seed(3)
    network: nn.Module = recipe.model().eval()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return network


def begun(source: Any, recipe: Any, names: tuple[str, ...] = (), target: tuple[str, ...] = ()) -> tuple[Any, Any, Any]:
    """The source's network, the recipe's with weights from it, and what was taken."""
    network, fresh = trained(source), recipe.model().eval()
    shapes = {name: tuple(value.shape) for name, value in fresh.state_dict().items()}
    found = fitted(Initial(source, network.state_dict(), names, {}), recipe, shapes, target)
    fresh.load_state_dict({**fresh.state_dict(), **found.tensors})
    return network, fresh, found


def grey(channels: int) -> Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)).expand(-1, channels, -1, -1)


T = torch.arange(4.0) * 9


@pytest.mark.parametrize("network", [UNET, DDPMpp(**SONG), ADMUNet(channels=16, multipliers=(1,), blocks=1,
                                                                    attention=(), head_channels=16)])  # fmt: skip
def test_a_picture_as_a_further_input_counts_nothing_at_first(network: Any) -> None:
    source = replace(BASE, shape=(3, 8, 8), network=network)
    old, new, found = begun(source, replace(source, conditioning=Picture("grey", dropout=0.1)))
    assert not found.fresh
    assert len(found.widened) == 1
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    pictures = torch.randn(2, 4, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = old(x, T)
        for picture in pictures:
            torch.testing.assert_close(new(x, T, low_res=picture), expected)


@pytest.mark.parametrize(
    "source",
    [BASE, replace(BASE, network=NCSNpp(**SONG)), replace(BASE, network=DDPMpp(**SONG)),
     replace(BASE, network=ADMUNet(channels=32, multipliers=(1, 1), blocks=1, attention=(), head_channels=32)),
     ImprovedDDPM((1, 8, 8), BASE.network, steps=40)],
    ids=["ho", "ncsnpp", "ddpmpp", "adm", "variance"],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_other_channels_give_the_same_output_for_grey_images(source: Any, channels: int) -> None:
    """1 -> 3 and 3 -> 1, where a variance head has channels of its own."""
    source, recipe = replace(source, shape=(4 - channels, 8, 8)), replace(source, shape=(channels, 8, 8))
    network, fresh, found = begun(source, recipe)
    assert not found.fresh
    assert found.widened
    t = T + 1
    with torch.no_grad():
        before, after = (n(grey(n.in_channels), t).unflatten(1, (-1, n.in_channels)) for n in (network, fresh))
    torch.testing.assert_close(after, before.mean(2, keepdim=True).expand_as(after), rtol=1e-4, atol=1e-4)


def test_classes_keep_their_rows_by_name_and_new_ones_begin_at_the_mean() -> None:
    source = replace(BASE, conditioning=Labels(3, 0.1))
    network, fresh, found = begun(source, replace(BASE, conditioning=Labels(4, 0.2)), NAMES, ("fox", "owl", "cat", "x"))
    assert found.widened == ["label_embedding.weight"]
    x = grey(1)
    with torch.no_grad():
        for now, then in ((0, 2), (2, 0), (4, 3)):  # fox, cat, and the null label
            y, z = torch.full((4,), now), torch.full((4,), then)
            torch.testing.assert_close(fresh(x, T, y=y), network(x, T, y=z))
    rows: Any = network.label_embedding
    torch.testing.assert_close(fresh.label_embedding.weight[1], rows.weight[:3].mean(0))


def test_labels_come_and_go_without_a_change_of_the_first_output() -> None:
    """No labels -> labels: rows of zeros. Labels -> none: the null row is what remains."""
    labelled, x = replace(BASE, conditioning=Labels(3, 0.1)), grey(1)
    network, fresh, found = begun(BASE, labelled, target=NAMES)
    assert found.fresh == ["label_embedding.weight"]
    with torch.no_grad():
        torch.testing.assert_close(fresh(x, T, y=torch.arange(4)), network(x, T))
    network, fresh, found = begun(labelled, replace(BASE, conditioning=Unconditional()), NAMES)
    assert not found.fresh
    with torch.no_grad():
        torch.testing.assert_close(fresh(x, T), network(x, T, y=torch.full((4,), 3)))


def test_another_size_takes_everything() -> None:
    _, _, found = begun(BASE, replace(BASE, shape=(1, 16, 16)))
    assert (found.fresh, found.widened, found.left) == ([], [], [])


def test_weights_of_another_network_are_one_line() -> None:
    wider = replace(BASE, network=replace(UNET, channels=32))
    with pytest.raises(ValueError, match=r"^the weights are of another network: (.* here; ){5}and \d+ more$"):
        begun(BASE, wider)


def test_the_average_begins_at_the_weights_and_the_rest_at_the_seed() -> None:
    network, _, found = begun(BASE, BASE)
    del found.tensors["conv_in.weight"]
    settings, device = TrainConfig(ema=(0.9, 0.99)), torch.device("cpu")
    plain, state = (
        first_state(BASE, BASE.build().times, settings, device, False, x) for x in (None, found.tensors)
    )  # fmt: skip
    for name, value in state.network.state_dict().items():
        wanted = plain.network.state_dict()[name] if name == "conv_in.weight" else network.state_dict()[name]
        assert torch.equal(value, wanted)
        assert torch.equal(value, state.ema.state_dict(0.99)[name])


def test_what_the_same_weights_mean_is_compared() -> None:
    assert compared(BASE, BASE) == []
    assert compared(BASE, replace(BASE, shape=(3, 16, 16))) == []
    (said,) = compared(BASE, replace(BASE, prediction="eps"))
    assert said.endswith("it is read exactly with --recipe.prediction v")
    (said,) = compared(replace(BASE, steps=1000), replace(BASE, steps=4000))
    assert "other numbers for the same noise" in said
    said_of_edm = compared(BASE, EDM((1, 8, 8), UNET))
    assert "a preset of ddpm" in said_of_edm[-1]
    assert compared(EDM((1, 8, 8), UNET), EDM((1, 8, 8), UNET, churn=4.0)) == []


def test_a_run_goes_on_without_its_source(tmp_path: Path) -> None:
    """Bit for bit, from the checkpoint before its first step, which has the weights of the source and says so."""
    source = toy.Toy()
    tensors = {name: value + 0.5 for name, value in source.model().state_dict().items()}
    config = {"recipe": {"paper": "toy"}, "from": {"source": "x", "fingerprint": "f"}}
    settings = replace(toy.SMALL, checkpoint_every=0.0, keep=100)
    whole, half = tmp_path / "whole", tmp_path / "half"
    toy.train(source, toy.images(), settings, whole, config=config, initial=tensors, quiet=True)
    shutil.copytree(whole, half)
    saves = sorted((half / "checkpoints").iterdir())
    assert saves[0].name == "000000000.safetensors"
    for path in saves[1:]:
        path.unlink()
    first = RunFolder.open(half).latest()
    assert first is not None
    assert first.about["from"] == config["from"]
    for name, value in tensors.items():
        assert torch.equal(first.tensors("model/")[name], value)
    toy.train(source, toy.images(), settings, half, config=config, resume=True, quiet=True)
    assert toy.same(toy.tensors(whole), toy.tensors(half))


def test_first_weights_are_saved_before_images_are_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []

    def noted(recipe: Any, network: nn.Module, images: Any, settings: Any) -> Any:
        saved.append([path.name for path in RunFolder.open(tmp_path / "run").checkpoints()])
        return images

    monkeypatch.setattr("sfumato.train.loop.encoded_once", noted)
    config = {"recipe": {"paper": "toy"}}
    first = toy.Toy().model().state_dict()
    toy.train(toy.Toy(), toy.images(), toy.SMALL, tmp_path / "run", config=config, initial=first, quiet=True)
    assert saved == [["000000000.safetensors"]]


TINY = ["--train.images", "64", "--train.batch", "16", "--train.preview-images", "0", "--train.validation-images", "8",
        "--train.precision", "float32", "--train.threads", "1"]  # fmt: skip


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", "ddpm/digits", "--out", str(first), *TINY]) == 0
    capsys.readouterr()
    words = ["train", "ddpm/digits", "--out", str(second), "--from", str(first), "--from-weights", "online", *TINY]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "online weights, 64 images of digits seen" in said
    assert "0 widened, 0 fresh" in said
    config = json.loads((second / "config.json").read_text())
    assert config["from"]["source"] == str(first)
    assert config["train"]["learning_rate"] == pytest.approx(2e-3 / 5)
    assert config["train"]["warmup"] == 500 * 16  # steps of the batch that was named
    shutil.rmtree(first)
    assert main(["train", "--resume", str(second), "--train.images", "128"]) == 0
    assert json.loads((second / "config.json").read_text())["from"] == config["from"]


def test_killed_before_its_first_checkpoint_a_run_begins_at_its_source_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run bit for bit; refused where the source is gone, or is another by now."""
    first, second = tmp_path / "first", tmp_path / "second"
    plain = ["train", "ddpm/digits", *TINY, "--recipe.network.channels", "32"]
    assert main([*plain, "--out", str(first)]) == 0
    assert main([*plain, "--out", str(second), "--from", str(first), "--from-weights", "online"]) == 0
    whole, config = toy.tensors(second), json.loads((second / "config.json").read_text())
    shutil.rmtree(second / "checkpoints")  # as a kill before the first of them leaves it
    capsys.readouterr()
    assert main(["train", "--resume", str(second)]) == 0
    assert f"from     {first}, online weights" in capsys.readouterr().out
    assert toy.same(toy.tensors(second), whole)
    assert json.loads((second / "config.json").read_text())["from"] == config["from"]
    other = [*plain, "--train.seed", "1", "--out", str(first)]
    for change, said in ((other, "other weights now"), ([], "no such run")):
        shutil.rmtree(second / "checkpoints", ignore_errors=True)
        shutil.rmtree(first)
        assert not change or main(change) == 0
        capsys.readouterr()
        assert main(["train", "--resume", str(second)]) == 2
        heard = capsys.readouterr().err
        assert f"{second} was stopped before its first checkpoint, and cannot begin once more: " in heard
        assert said in heard
        assert heard.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "nothing/here"], "no such run folder or checkpoint"),
        (["--from", "ddpm/fashion", "--recipe.network.channels", "64"], "cannot be started from: the weights are of"),
        (["--from-weights", "online"], "--from MODEL"),
    ],
)
def test_what_cannot_be_started_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["train", "ddpm/digits", "--out", str(tmp_path / "run"), *words, *TINY]) == 2
    heard = capsys.readouterr().err
    assert said in heard
    assert heard.count("\n") == 1
    assert not (tmp_path / "run").exists()
