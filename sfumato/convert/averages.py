"""Which weights of a training state are taken: the moving average, wherever it lies, or else the network.

Nothing is called an average but what the file itself holds under such a name; the name of a file proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from sfumato.convert.state import ForeignError, State

EMA, ONLINE, PLAIN = "EMA", "online", "as in the file"
"""What is said of the weights: an average that the file holds, a training state's own, or a file of weights alone."""

AVERAGE = {"ema", "average", "averaged", "avg", "shadow", "swa", "polyak"}
"""Words in the names of averages: ema, model_ema, ema_model, params_ema, state_dict_ema, shadow_params, ..."""
NETWORK = {
    "state_dict", "model", "model_state_dict", "model_state", "net", "network", "unet", "module", "params", "weights",
    "online_model", "denoiser", "score_model", "online",
}  # fmt: skip
"""Names of the network itself, which tell its weights from others."""
OTHER = {
    "optimizer", "optimizers", "optim", "opt", "optimiser", "scaler", "scheduler", "lr", "rng", "callbacks", "loops",
    "collected", "config", "cfg", "args", "hparams", "hyper",
}  # fmt: skip
"""Words in the names of what is no network."""
WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that torch.compile, FSDP and checkpoint wrappers put in, anywhere."""
PREFIXES = {
    "module", "model", "net", "network", "unet", "diffusion_model", "denoise_fn", "_model", "denoiser", "eps_model",
    "score_model", "ema_model", "online_model",
}  # fmt: skip
"""What stands before all names where a network was a member of something."""
DEPTH = 6


class Chosen(NamedTuple):
    """The weights that are taken, in words how they were found, and which they are: EMA, ONLINE or PLAIN."""

    state: State
    notes: list[str]
    weights: str


class _Found(NamedTuple):
    """A set of weights in a file: the names on the way to it, by name or in order, and whether it is an average."""

    way: tuple[str, ...]
    state: State | list[Tensor]
    average: bool

    def __str__(self) -> str:
        return repr("/".join(self.way)[:80]) if self.way else "the file itself"


def choose(held: Any) -> Chosen:
    """The weights of what a file holds.

    Known: a bare state dict; the prefixes of DataParallel, torch.compile, FSDP and of members; the lists of ncsn,
    [network, optimiser], and of ncsnv2 and ermongroup/ddim, [network, optimiser, epoch, step, average]; dictionaries in
    which an entry, at any depth, has a name of an average: a state dict, one of ema_pytorch, LitEma or AveragedModel,
    or a list in the order of the trained parameters (score_sde_pytorch, torch_ema, diffusers).

    Raises:
        ForeignError: no weights, several between which names do not tell, or an average that is not of these weights.
    """
    found = [part for each in _walk(held, ()) for part in _split(each)]
    if isinstance(held, list | tuple):
        found = _listed(list(held), found)
    averages, others = [part for part in found if part.average], [part for part in found if not part.average]
    training = isinstance(held, list | tuple) or (isinstance(held, dict) and any(_words(str(k)) & OTHER for k in held))
    if len(averages) > 1:
        listed = ", ".join(map(str, averages[:5]))
        raise ForeignError(f"holds several averages ({listed}): save the one that is meant in a file of its own")
    if averages:
        return _averaged(averages[0], others)
    if isinstance(held, dict) and (
        empty := [str(k) for k, v in held.items() if _words(str(k)) & AVERAGE and _is_full(v)]
    ):
        raise ForeignError(f"holds something else than weights in its moving average, the entry {empty[0]!r:.80}")
    if not others:
        what = "a list without weights" if isinstance(held, list | tuple) else "no network's weights"
        optimiser = isinstance(held, dict) and "param_groups" in held
        raise ForeignError("holds an optimiser's state" if optimiser else f"holds {what}")
    taken = _network(others)
    state, notes = unprefixed(taken.state)
    kind = ONLINE if training else PLAIN
    if taken.way:
        notes.insert(0, f"{'a training state; ' if training else ''}the entry {taken}")
    return Chosen(state, notes, kind)


# ---------------------------------------------------------------- what a file holds


def _walk(value: Any, way: tuple[str, ...]) -> Iterator[_Found]:
    """Every set of weights in what a file holds."""
    average = any(_words(name) & AVERAGE for name in way)
    if isinstance(value, dict) and "param_groups" not in value:
        inner = {name: part for name, part in value.items() if isinstance(part, dict | list | tuple)}
        tensors = {name: part for name, part in value.items() if isinstance(name, str) and isinstance(part, Tensor)}
        if not inner and any(part.ndim for part in tensors.values()):
            yield _Found(way, tensors, average)
        for name, part in inner.items() if len(way) < DEPTH else ():
            if not _words(str(name)) & OTHER:
                yield from _walk(part, (*way, str(name)))
    elif isinstance(value, list | tuple) and value:
        if all(isinstance(part, Tensor) for part in value):
            if average:
                yield _Found(way, list(value), average)
            return
        for i, part in enumerate(value[:100]) if len(way) < DEPTH else ():
            yield from _walk(part, (*way, str(i)))


def _split(found: _Found) -> Iterator[_Found]:
    """A state whose names say which are the average's, in its parts: ema_pytorch, LitEma, AveragedModel."""
    state = found.state
    if isinstance(state, list):
        yield found
        return
    if "n_averaged" in state:
        yield found._replace(state={k: v for k, v in state.items() if k != "n_averaged"}, average=True)
        return
    firsts = {name.partition(".")[0] for name in state if "." in name}
    averaged = {first for first in firsts if _words(first) & AVERAGE}
    if not averaged:
        yield found
        return
    for first in sorted(averaged):
        inner = {
            name.partition(".")[2]: v for name, v in state.items() if name.partition(".")[0] == first and "." in name
        }
        yield _Found((*found.way, first), inner, True)
    rest = {name: v for name, v in state.items() if "." in name and name.partition(".")[0] not in averaged}
    if rest:
        yield found._replace(state=rest, average=False)


def _listed(held: list[Any], found: list[_Found]) -> list[_Found]:
    """The states of a list: [network, optimiser, epoch, step, average] where it has as many entries, and two states."""
    if len(found) == 2 and len(held) >= 5 and found[0].way == ("0",) and found[1].way == (str(len(held) - 1),):
        return [found[0]._replace(average=False), found[1]._replace(average=True)]
    return found


def _is_full(value: Any) -> bool:
    return isinstance(value, dict | list | tuple) and bool(value)


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


# ---------------------------------------------------------------- which is taken


def _network(found: list[_Found]) -> Any:
    """The one that is the network's. ForeignError where names do not tell."""
    named = [part for part in found if part.way and part.way[-1] in NETWORK]
    least = min((len(part.way) for part in named), default=0)
    for some in (found, named, [part for part in named if len(part.way) == least]):
        if len(some) == 1:
            return some[0]
    listed = ", ".join(map(str, found[:5]))
    raise ForeignError(f"holds several sets of weights ({listed}), of which none is named as the network")


def _averaged(average: _Found, others: list[_Found]) -> Chosen:
    """An average, with what it leaves out since it is not trained. ForeignError where it is not of these weights."""
    note = f"a training state; its moving average, the entry {average}"
    if isinstance(average.state, list):
        if not others:
            raise ForeignError(f"holds a moving average without names ({average}), and no network that has them")
        state, notes = unprefixed(_network(others).state)
        trained = [name for name, value in state.items() if not _untrained(name, value)]
        if len(trained) != len(average.state):
            raise ForeignError(
                f"holds a moving average which has {len(average.state)} tensors; the network has {len(trained)}"
            )
        means = dict(zip(trained, average.state, strict=True))
        _check_shapes(means, state)
        return Chosen({**state, **means}, [f"{note}, matched by the order of the trained parameters", *notes], EMA)
    means, notes = unprefixed(average.state)
    if not others:
        return Chosen(means, [note, *notes], EMA)
    fitting = [plain for part in others if (plain := unprefixed(part.state)[0]) and _holds(plain, means)]
    if not fitting:
        network = _network(others).state
        state, _ = unprefixed(network)
        means = _dotted(means, list(network), list(state))
        _check_shapes(means, state)
    else:
        state = fitting[0]
    lacking = [name for name, value in state.items() if name not in means and not _untrained(name, value)]
    if lacking:
        raise ForeignError(f"holds a moving average ({average}) without {lacking[0][:100]}, which the network trains")
    return Chosen({**{name: value for name, value in state.items() if name not in means}, **means}, [note, *notes], EMA)


def _holds(state: Mapping[str, Tensor], means: Mapping[str, Tensor]) -> bool:
    return all(name in state and state[name].shape == value.shape for name, value in means.items())


def _check_shapes(means: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    for name, value in means.items():
        if name not in state or state[name].shape != value.shape:
            shape = tuple(value.shape)
            raise ForeignError(f"holds something else than weights in its moving average: {name[:100]} {shape}, "
                               "which the network does not have")  # fmt: skip


def _dotted(means: State, names: list[str], plain: list[str]) -> State:
    """LitEma's tensors, whose names have no dots and beside which counts stand, by the names that the network has.

    Args:
        names, plain: the network's, as they are in the file and without what stands before all of them.
    """
    weights = {name: value for name, value in means.items() if value.ndim or name not in ("decay", "num_updates")}
    for left in range(3):
        known = {"".join(name.split(".")[left:]): short for name, short in zip(names, plain, strict=True)}
        if len(known) == len(names) and all(name in known for name in weights):
            return {known[name]: value for name, value in weights.items()}
    return means


def _untrained(name: str, value: Tensor) -> bool:
    """What no optimiser trains: noise levels, the rates of Fourier features, counts."""
    return name == "sigmas" or (name == "all_modules.0.W" and value.ndim == 1) or not value.is_floating_point()


def unprefixed(state: Any) -> tuple[State, list[str]]:
    """The same tensors by the names that the network itself gives them, and in words what was left out."""
    notes = []
    names = list(state)
    if any(part in WRAPPED for name in names for part in name.split(".")):
        names = [".".join(part for part in name.split(".") if part not in WRAPPED) for name in names]
        notes.append("the names of torch.compile or FSDP are left out")
    while names and (first := names[0].partition(".")[0]) in PREFIXES:
        if not all(name.startswith(f"{first}.") for name in names):
            break
        names = [name.partition(".")[2] for name in names]
        what = "the prefix of DataParallel is" if first == "module" else f"the prefix {first!r} is"
        notes.append(f"{what} left out")
    if len(set(names)) < len(names):
        raise ForeignError("holds weights of the same name, once their prefixes are left out")
    return dict(zip(names, state.values(), strict=True)), notes
