"""The shipped files of the model: complete, verified, in the wheel, and enough without a network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import EmbedderBroken
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.embedding.encoder import BUNDLED, GRAPH, STAMP, TOKENIZER, MiniLm, verify_bundle
from mempalace_mcp.embedding.models import MODELS, BundledModel

ROOT = Path(__file__).resolve().parents[2]

OFFLINE = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"{event} although everything is here")

sys.addaudithook(refuse)
from mempalace_mcp.embedding.models import MODELS

for model in MODELS.values():
    print(model.load().embed(["no network", "is needed"]).shape)
"""

LAZY = """
import sys
import mempalace_mcp.embedding.background, mempalace_mcp.embedding.encoder, mempalace_mcp.embedding.models

print(sorted({"onnxruntime", "tokenizers", "sentencepiece"} & sys.modules.keys()))
"""


def copy_bundle(directory: Path) -> Path:
    shutil.copytree(BUNDLED, directory / "model")
    return directory / "model"


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


EACH_MODEL = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@EACH_MODEL
def test_the_files_match_the_stamp(model: BundledModel) -> None:
    stamp = json.loads((model.directory / STAMP).read_text(encoding="utf-8"))
    others = {path.name: path for path in model.directory.iterdir() if path.name not in (STAMP, "NOTICE")}
    assert stamp["sha256"] == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in others.items()}
    assert verify_bundle(model.directory).stamp == model.stamp


def test_models_have_stamps_of_their_own() -> None:
    assert len({model.stamp for model in MODELS.values()}) == len(MODELS)
    assert len({model.stamp.dimension for model in MODELS.values()}) == len(MODELS), "by it, vectors are told apart"
    assert MODELS["minilm"].stamp == ModelStamp("all-MiniLM-L6-v2", "dynamic-int8", 384)


@EACH_MODEL
def test_the_model_names_its_origin_and_licence(model: BundledModel) -> None:
    notice = (model.directory / "NOTICE").read_text(encoding="utf-8")
    assert model.stamp.name.removesuffix("-3") in notice
    assert "Apache License, Version 2.0" in notice


@pytest.mark.parametrize("name", [GRAPH, TOKENIZER, STAMP])
@pytest.mark.parametrize("damage", [Path.unlink, replace_by_directory, lambda path: os.truncate(path, 100)])
def test_a_missing_or_cut_file_is_named(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    directory = copy_bundle(tmp_path)
    damage(directory / name)
    with pytest.raises(EmbedderBroken, match=name) as caught:
        MiniLm.load(directory)
    assert caught.value.hint
    assert not caught.value.retryable


@pytest.mark.parametrize("name", [GRAPH, TOKENIZER])
def test_one_wrong_bit_is_noticed(tmp_path: Path, name: str) -> None:
    directory = copy_bundle(tmp_path)
    flip_a_byte(directory / name)
    with pytest.raises(EmbedderBroken, match=f"{name} .* checksum"):
        MiniLm.load(directory)


@pytest.mark.parametrize(
    "stamp", ["", "[]", "null", "{}", '{"name": "x", "quantization": "y", "dimension": "many"}', "\udcff"]
)
def test_a_damaged_stamp_is_noticed(tmp_path: Path, stamp: str) -> None:
    (tmp_path / STAMP).write_bytes(stamp.encode("utf-8", "surrogateescape"))
    with pytest.raises(EmbedderBroken, match=STAMP):
        verify_bundle(tmp_path)


def test_it_works_without_a_network(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.returncode) == ("(2, 384)\n(2, 512)\n", 0), done.stderr
    assert not list(tmp_path.iterdir())


def test_importing_the_layer_loads_no_runtime() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAZY], cwd=ROOT, capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv builds the wheel")
def test_the_wheel_contains_the_model(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("mempalace_mcp", "examples"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    files = [source / path.relative_to(ROOT) for model in MODELS.values() for path in model.directory.iterdir()]
    for path in files:  # to compress 90 MB of numbers takes most of the time of a build
        os.truncate(path, min(path.stat().st_size, 1 << 20))
    command = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, timeout=55)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        for path in files:
            assert wheel.read(str(path.relative_to(source))) == path.read_bytes()
