"""What a step sees depends on the image counter alone, however a batch is cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.core.times import UniformLevels
from sfumato.train.batches import Batches, seed_dropout, shard, stratify
from tests.train import toy

KINDS = ("stratified", "random", "antithetic")
Kind = Literal["stratified", "random", "antithetic"]


@given(st.integers(0, 10**9), st.integers(1, 200), st.integers(1, 7))
def test_parts_make_the_whole(start: int, size: int, parts: int) -> None:
    pieces = shard(range(start, start + size), parts)
    assert len(pieces) == parts
    assert [k for piece in pieces for k in piece] == list(range(start, start + size))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10**12), st.integers(0, 2**60), st.integers(1, 40), st.integers(1, 5))
def test_levels_do_not_depend_on_company(kind: str, start: int, seed: int, size: int, parts: int) -> None:
    counters = range(start, start + size)
    whole = stratify(kind, seed, counters)
    assert ((whole >= 0) & (whole < 1)).all()
    assert torch.equal(whole, torch.cat([stratify(kind, seed, part) for part in shard(counters, parts)]))


@pytest.mark.parametrize("kind", KINDS)
def test_levels_cover_the_schedule(kind: str) -> None:
    u = stratify(kind, 3, range(4096))
    counts = torch.histc(u.float(), 8, 0, 1)
    assert (counts - 512).abs().max() < (4 if kind == "stratified" else 90)


def test_antithetic_pairs_mirror_each_other() -> None:
    u = stratify("antithetic", 0, range(10, 30))
    assert torch.allclose(u[0::2] + u[1::2], torch.ones(10, dtype=torch.float64))


@pytest.mark.parametrize("times", get_args(Kind))
def test_a_batch_is_its_parts(times: Kind) -> None:
    config = replace(toy.SMALL, times=times)
    batches = Batches(toy.images(), UniformLevels(100), config, labelled=True)
    counters = range(80, 100)  # across the end of an epoch
    whole, parts = batches(counters), [batches(part) for part in shard(counters, 3)]
    for name in ("x0", "t", "weight"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    assert whole.keys == [key for part in parts for key in part.keys]
    assert torch.equal(whole.given["y"], torch.cat([part.given["y"] for part in parts]))
    assert torch.equal(whole.noise(whole.x0), torch.cat([part.noise(part.x0) for part in parts]))
    assert whole.x0.min() >= -1
    assert whole.x0.max() <= 1


def test_flips_mirror_about_half_and_only_where_asked() -> None:
    plain = Batches(toy.images(), UniformLevels(100), replace(toy.SMALL, flip=False), labelled=False)(range(90))
    flipped = Batches(toy.images(), UniformLevels(100), replace(toy.SMALL, flip=True), labelled=False)(range(90))
    same = (plain.x0 == flipped.x0).flatten(1).all(1)
    mirrored = (plain.x0.flip(-1) == flipped.x0).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 25 <= int(mirrored.sum()) <= 65
    assert plain.given == {}


def test_dropout_follows_from_the_counters() -> None:
    draws = []
    for seed, start in ((0, 0), (0, 8), (1, 0), (0, 0)):
        seed_dropout(seed, range(start, start + 8), torch.device("cpu"))
        draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[3])
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
