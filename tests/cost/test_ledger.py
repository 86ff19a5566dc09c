"""The ledger of live bytes: storages once, views never, and struck out when the last reference goes."""

from __future__ import annotations

import torch

from sfumato.cost.ledger import Ledger


def test_storages_live_and_die() -> None:
    with Ledger("cpu") as ledger:
        a = torch.zeros(1000)
        assert ledger.live == 4000
        b = a.view(10, 100)[2:]
        assert ledger.live == 4000, "a view holds nothing of its own"
        c = a * 2
        assert (ledger.live, ledger.peak) == (8000, 8000)
        del a
        assert ledger.live == 8000, "the view still holds the storage"
        del b
        assert ledger.live == 4000
        del c
    assert (ledger.live, ledger.peak) == (0, 8000)


def test_what_was_there_before_counts_once_entered() -> None:
    ledger, a, b = Ledger("cpu"), torch.zeros(1000), torch.zeros(1000, device="meta")
    assert ledger.enter([a, a[10:], b]) == 4000, "once, and not what lies elsewhere"
    assert ledger.enter([a]) == 0
    del a
    assert (ledger.live, ledger.peak) == (0, 4000)


def test_shares() -> None:
    """Of what is split among four processes, a quarter counts, and a quarter goes."""
    ledger, a, b = Ledger("cpu"), torch.zeros(1000), torch.zeros(1000)
    ledger.enter([a], 0.25)
    ledger.enter([b])
    assert ledger.live == 5000
    ledger.share(b, 0.25)
    assert ledger.live == 2000
    del a, b
    assert ledger.live == 0


def test_the_peak_sees_what_autograd_allocates() -> None:
    x = torch.zeros(1000, device="meta", requires_grad=True)
    with Ledger("meta") as ledger:
        y = x.exp()  # keeps its result
        z = y.sin().sum()  # keeps y
        assert ledger.live == 4000 + 4
        z.backward()
    assert ledger.peak >= 12_000
    assert x.grad is not None
