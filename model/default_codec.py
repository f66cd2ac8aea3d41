"""The codec a backbone gets when none is named: the trained one that ships with the package, if there is one.

Every other backbone, and every other configuration, gets an untrained one, calibrated on first use and kept in the
user's cache. `untrained` as a codec's name asks for that one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from model.codec_folder import read_settings
from model.config import CodecConfig
from model.embedded import EMBEDDED, cache_folder, making
from model.weights import find_weights

UNTRAINED = "untrained"
SHIPPED = Path(__file__).parent / "codecs"  # a codec folder for each backbone's name
VERSION = 1  # of the calibration: a change here makes new codecs


def default_codec_folder(backbone: str, config: CodecConfig | None = None, *, precision: str = "auto") -> Path:
    """Its folder. Needs torch only when the codec has to be made. Raises what `find_weights` raises."""
    shipped = SHIPPED / backbone
    if config in (None, CodecConfig()) and backbone == EMBEDDED and shipped.is_dir():
        return shipped
    return untrained_codec_folder(backbone, config, precision=precision)


def untrained_codec_folder(backbone: str, config: CodecConfig | None = None, *, precision: str = "auto") -> Path:
    """As `default_codec_folder`, trained or not."""
    config = config or CodecConfig()
    weights = find_weights(backbone)
    key = json.dumps([VERSION, config.as_dict(), weights.fingerprint, weights.tokenizer().fingerprint], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = cache_folder() / "codecs" / f"untrained-{Path(backbone).name}-{digest}"
    if not _is_whole(folder):
        with making(folder):
            if not _is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _make(backbone, config, precision, folder)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        read_settings(folder)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _make(backbone: str, config: CodecConfig, precision: str, folder: Path) -> None:
    from model.backbone import load_backbone
    from model.codec_io import save_codec
    from model.untrained import untrained_codec

    loaded = load_backbone(backbone, precision=precision, load_in_4bit=config.load_in_4bit)
    save_codec(untrained_codec(loaded, config), folder)
