"""The settings of a run: counts as people write them, budgets, and the learning rate that fits itself to them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.cli.parsing import parse
from sfumato.cli.train import ResumeArguments
from sfumato.papers.training import SUFFIXES, TrainConfig, parse_count
from sfumato.train.learning_rate import learning_rate_at


@given(st.integers(0, 10**15), st.sampled_from(["{}", "{:_}", " {} ", "0{}"]))
def test_counts_are_read_back(n: int, form: str) -> None:
    assert parse_count(form.format(n)) == n == parse_count(n)


@given(st.integers(0, 10**6), st.sampled_from(["k", "K", "m", "M", "b", "B"]))
def test_thousandths_of_a_suffix_are_exact(n: int, suffix: str) -> None:
    assert parse_count(f"{n // 1000}.{n % 1000:03}{suffix}") == n * SUFFIXES[suffix.lower()] // 1000


@given(st.text(max_size=8))
def test_anything_is_a_count_or_one_clear_error(text: str) -> None:
    try:
        number = parse_count(text)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
        assert number >= 0
    assert not message or "is not a count; write" in message


@pytest.mark.parametrize("text", ["", "2X", "-5", "1.5", "0.0001k", "nan", "inf", "1e6", "k", "1.2.3M", "٣"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(ValueError, match="is not a count; write for example"):
        parse_count(text)


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    config = TrainConfig(images=100_000, batch=50, learning_rate=1.0, warmup=1_000)
    steps = range(0, 100_000, 50)
    rates = [learning_rate_at(k / 100_000, k, config) for k in steps]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == rates[19] == pytest.approx(1, abs=1e-3)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 1e-6
    half = learning_rate_at(0.5, 50_000, config)
    assert half == pytest.approx(0.5)


def test_a_constant_rate_stays_and_no_warmup_starts_at_once() -> None:
    config = TrainConfig(learning_rate=0.3, warmup=0, decay="constant")
    assert {learning_rate_at(p / 10, 0, config) for p in range(11)} == {0.3}


def test_the_inverse_square_root_begins_after_a_tenth_or_so_many_images() -> None:
    config = TrainConfig(learning_rate=0.3, warmup=0, decay="inverse-sqrt")
    rates = [learning_rate_at(p, 0, config) for p in (0.0, 0.1, 0.4, 1.0)]
    assert rates == pytest.approx([0.3, 0.3, 0.15, 0.3 / 10**0.5])
    config = TrainConfig(learning_rate=0.3, warmup=0, decay="inverse-sqrt", decay_after=1_000)
    assert [learning_rate_at(0.9, n, config) for n in (10, 1_000, 9_000)] == pytest.approx([0.3, 0.3, 0.1])


def test_a_short_run_is_not_all_warmup() -> None:
    config = TrainConfig(images=1_000, batch=10, warmup=1_000_000, learning_rate=1.0, decay="constant")
    assert learning_rate_at(0.1, 100, config) == 1.0
    assert learning_rate_at(0.05, 50, config) == pytest.approx(0.5)


def test_whichever_budget_is_spent_first_counts() -> None:
    both = TrainConfig(images=1_000, minutes=1.0)
    assert both.progress(500, 6.0) == 0.5
    assert both.progress(100, 30.0) == 0.5
    assert both.progress(5_000, 0.0) == 1.0
    assert both.budget() == "1,000 images or 1 minutes"
    assert TrainConfig(images=1_000).progress(0, 1e9) == 0
    assert TrainConfig().progress(10**12, 300.0) == 0.5
    assert TrainConfig().budget() == "10 minutes"


def test_gentle_numbers_warm_up_over_as_many_steps_by_another_batch() -> None:
    gentle = TrainConfig(batch=32).gentle()
    assert (gentle.warmup, gentle.learning_rate) == (16_000, pytest.approx(2e-4))
    assert gentle.rewarmed(replace(gentle, batch=256), {"batch"}).warmup == 128_000
    assert gentle.rewarmed(replace(gentle, batch=256, warmup=7), {"batch", "warmup"}).warmup == 7
    plain = TrainConfig(batch=32)
    assert plain.rewarmed(replace(plain, batch=256), {"batch"}).warmup == plain.warmup


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--train.images", "500k"], "images", 500_000),
        (["--train.images=500k"], "images", 500_000),
        (["--train.warmup=1.5k"], "warmup", 1_500),
        (["--train.decay-after", "500k"], "decay_after", 500_000),
        (["--train.decay-after=2M"], "decay_after", 2_000_000),
        (["--train.decay_after", "2M"], "decay_after", 2_000_000),
        (["--train.fd-images", "10k"], "fd_images", 10_000),
        (["--train.images=64"], "images", 64),
    ],
)
def test_counts_of_the_command_line(words: list[str], name: str, value: int) -> None:
    parsed = parse(ResumeArguments, ["--resume", "x", *words], "sfumato train")
    assert getattr(parsed.train, name) == value


def test_settings_survive_json() -> None:
    config = TrainConfig(images=5, ema=(0.9, 0.5), betas=(0.1, 0.2), flip=True)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ValueError, match="unknown training options: lr"):
        TrainConfig.from_json({"lr": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": 0}, "batch is between 1 and 1,048,576, not 0"),
        ({"batch": 50.5}, "batch is a whole number, not 50.5"),
        ({"batch": True}, "batch is a whole number, not True"),
        ({"images": -1}, "images is between 1 and 1,000,000,000,000,000, not -1"),
        ({"minutes": math.inf}, "minutes is above 0 and at most 10,000,000, not inf"),
        ({"minutes": "8"}, "minutes is a number, not '8'"),
        ({"learning_rate": math.nan}, "learning_rate is above 0 and at most 1,000, not nan"),
        ({"learning_rate": 10**400}, "learning_rate is above 0 and at most 1,000, not 10,000,000"),
        ({"clip": -1.0}, "clip is between 0 and 1,000,000,000, not -1"),
        ({"flip": "no"}, "flip is true or false, not 'no'"),
        ({"flip": 0}, "flip is true or false, not 0"),
        ({"threads": 100_000_000}, "threads is between 1 and 1,024, not 100,000,000"),
        ({"device": "banana"}, "device is one of auto, cpu, cuda, mps, not 'banana'"),
        ({"preview_images": 10**9}, "preview_images is between 0 and 1,024"),
        ({"log_every": 1e-320}, "log_every is between 1e-09 and 1"),
        ({"ema": ()}, "ema is 1 to 16 values, not ()"),
        ({"ema": (1.0,)}, "ema is several values, each at least 0 and below 1, not (1.0,)"),
        ({"ema": (0.9, 0.9)}, "ema is one or more different rates"),
        ({"betas": (0.9, 1.0)}, "betas is several values, each at least 0 and below 1, not (0.9, 1.0)"),
        ({"betas": (0.9,)}, "betas is 2 values, not (0.9,)"),
        ({"decay": "linear"}, "decay is one of cosine, constant, inverse-sqrt, not 'linear'"),
        ({"times": "all"}, "times is one of"),
        ({"batch": 4, "accumulate": 5}, "a batch of 4 images cannot be split into 5 parts"),
    ],
)
def test_impossible_settings_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainConfig(**values)
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainConfig.from_json(values)
