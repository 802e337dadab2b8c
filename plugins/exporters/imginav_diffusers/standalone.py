"""A Python file that defines `ImginavAutoencoder` for one autoencoder, and needs torch and diffusers but not imginav.

It is the source of this package's class, with the networks that torch.fx has traced in place of plugins that build
them. diffusers runs such a file where its user says `trust_remote_code=True`.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imginav.model.autoencoder import Autoencoder
from imginav_handoff.network_source import CannotTraceError, network_source
from imginav_handoff.pretrained import evaluation_mode

OWN = "imginav"

SOURCES = [Path(__file__).with_name(name) for name in ("tiling.py", "autoencoder.py")]
"""The files of this package that such a file repeats. They are read rather than imported: the second needs this one."""

HEADER = '''"""An autoencoder for latent diffusion, trained by imginav.

Beside its weights, this file is all that diffusers needs:

    AutoModel.from_pretrained("FOLDER", trust_remote_code=True)
"""

from __future__ import annotations

'''

NEEDS_IMGINAV = '''"""An autoencoder for latent diffusion, trained by imginav, which must be installed.

Its networks cannot be written down without the plugins that build them ({reason}).
"""

from imginav_diffusers import ImginavAutoencoder

__all__ = ["ImginavAutoencoder"]
'''

BUILD = '''
def build_network(architecture: Any) -> Autoencoder:
    """Return the networks of this file, without their weights; raises ValueError where a config describes others."""
    if json.dumps(architecture, sort_keys=True) != ARCHITECTURE:
        # diffusers copies such files to one place for all models: another process may have put its own there.
        raise ValueError("imginav_diffusers.py is of another autoencoder than config.json; load it again")
    return Autoencoder()
'''

CLASS_FILE = '''
def class_file(*_: Any) -> str:
    """Return this file."""
    return Path(__file__).read_text(encoding="utf-8")
'''


def class_file_of(network: Autoencoder, architecture: Mapping[str, Any]) -> str:
    """Return the source of such a file for a network and what `Architecture.table()` says of it.

    Where the network cannot be traced, the file needs imginav.
    """
    try:
        return standalone_source(network, architecture)
    except CannotTraceError as error:
        return NEEDS_IMGINAV.format(reason=" ".join(str(error).split()))


def standalone_source(network: Autoencoder, architecture: Mapping[str, Any]) -> str:
    """Return the source of such a file that needs torch and diffusers alone; raises CannotTraceError."""
    sources = [path.read_text(encoding="utf-8") for path in SOURCES]
    described = f"ARCHITECTURE = {json.dumps(architecture, sort_keys=True)!r}"
    tiles, model = map(_after_imports, sources)
    networks = network_source(network)
    parts = [inspect.getsource(evaluation_mode), tiles, networks, described, BUILD, CLASS_FILE, model]
    return HEADER + _imports(sources) + "\n\n".join(part.strip("\n") + "\n" for part in parts)


def _after_imports(source: str) -> str:
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(source.split("\n")[imports[-1].end_lineno :])


def _imports(sources: Iterable[str]) -> str:
    lines = {"import json", "from collections.abc import Iterator", "from contextlib import contextmanager"}
    for node in (node for source in sources for node in ast.parse(source).body):
        own = isinstance(node, ast.ImportFrom) and str(node.module).startswith((OWN, "__future__"))
        if isinstance(node, ast.Import | ast.ImportFrom) and not own:
            lines.add(ast.unparse(node))
    return "\n".join(sorted(lines)) + "\n\n\n"
