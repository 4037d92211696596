"""The chart as helm renders it: what Kubernetes is given, and that our programs accept it.

`make test-deploy` runs these; they need helm, which `tools/install-helm` builds.
"""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from agentflow.cli import COMMANDS, cli
from tests.support import tools
from tests.support.nats_server import binary

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/agentflow"
pytestmark = pytest.mark.tools("helm")

Manifest = dict[str, Any]
FOREIGN = ("ServiceMonitor", "ScaledObject", "HTTPRoute")
"""Kinds whose schemas Kubernetes does not bring."""
VARIANTS: dict[str, Manifest] = {
    "default": {},
    "all": {
        "image": {"repository": "r/agentflow", "digest": "sha256:" + "a" * 64},
        "nats": {"tls": {"secret": "nats-tls"}},
        "gateway": {
            "enabled": True,
            "hosts": ["tasks.example.org"],
            "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "web"},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "edge"}]},
        },
        "workers": {
            "default": {"queues": ["default"], "replicas": 3},
            "bulk": {
                "queues": ["bulk", "night"],
                "concurrency": 20,
                "processes": 2,
                "grace": 120,
                "kinds": ["claude", "echo"],
                "autoscaling": {"enabled": True, "min": 0, "max": 7},
            },
        },
        "metrics": {"serviceMonitor": {"enabled": True}},
        "otel": {"endpoint": "http://collector.observability:4318"},
    },
    "external": {"nats": {"enabled": False, "url": "tls://nats.example.org:4222"}},
}


def helm(*arguments: str, values: Manifest | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tools.path("helm")), *arguments, *(["--values", "-"] if values is not None else [])],
        input=json.dumps(values) if values is not None else None,
        capture_output=True,
        text=True,
        timeout=60,
    )


@cache
def rendered(variant: str) -> list[Manifest]:
    done = helm("template", "af", str(CHART), "--namespace", "ns", values=VARIANTS[variant])
    assert done.returncode == 0, done.stderr
    return [each for each in YAML(typ="safe").load_all(done.stdout) if each]


def named(variant: str, kind: str, name: str) -> Manifest:
    (found,) = (
        each
        for each in rendered(variant)
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


def pods(variant: str) -> list[tuple[str, Manifest]]:
    return [
        (each["metadata"]["name"], each["spec"]["template"]["spec"])
        for each in rendered(variant)
        if "template" in each.get("spec", {})
    ]


def environment(container: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_helm_finds_no_fault() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_field(variant: str, version: str) -> None:
    for manifest in rendered(variant):
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_pod_may_more_than_it_needs(variant: str) -> None:
    for name, pod in pods(variant):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name


@pytest.mark.parametrize("variant", VARIANTS)
def test_secrets_are_those_that_exist(variant: str) -> None:
    assert not [each for each in rendered(variant) if each["kind"] == "Secret"]
    for name, pod in pods(variant):
        for volume in pod["volumes"]:
            if "secret" in volume:
                allowed = {"agentflow-passwords", "agentflow-anthropic", "nats-tls"}
                assert volume["secret"]["secretName"] in allowed
                assert volume["secret"]["defaultMode"] == 0o440
        for container in pod["containers"]:
            given = environment(container)
            assert not {"AGENTFLOW_PASSWORD", "ANTHROPIC_API_KEY"} & given.keys(), name


def test_each_part_connects_under_its_role() -> None:
    for name, pod in pods("all"):
        if name == "af-nats":
            continue
        role = {"streams": "admin"}.get(part := name.split("-")[1], part)
        (container,) = pod["containers"]
        given = environment(container)
        assert (given["AGENTFLOW_USER"], given["AGENTFLOW_INBOX_PREFIX"]) == (
            role,
            f"_INBOX.{role}",
        )
        (password,) = (each for each in pod["volumes"] if each["name"] == "password")
        assert password["secret"]["items"] == [{"key": role, "path": "password"}]
        assert given["AGENTFLOW_NATS"].count("tls://af-nats-") == 3


def test_a_worker_is_given_the_time_that_it_needs() -> None:
    for name, grace in (("af-worker-default", 45), ("af-worker-bulk", 120)):
        pod = dict(pods("all"))[name]
        (container,) = pod["containers"]
        assert f"--grace={grace}" in container["args"]
        assert pod["terminationGracePeriodSeconds"] >= grace + 10
        assert "os.kill(1, 15)" in container["lifecycle"]["preStop"]["exec"]["command"][-1]
        assert container["livenessProbe"]["exec"]["command"] == ["agentflow", "health", "worker"]
        # Its answer takes two seconds when all is well, and a program's start before that.
        assert container["livenessProbe"]["timeoutSeconds"] >= 15


def test_several_of_each_are_kept_apart_and_never_all_taken_away() -> None:
    assert named("default", "Deployment", "af-master")["spec"]["replicas"] == 2
    for manifest in rendered("all"):
        if manifest["kind"] not in ("Deployment", "StatefulSet"):
            continue
        labels = manifest["spec"]["selector"]["matchLabels"]
        name = manifest["metadata"]["name"]
        assert named("all", "PodDisruptionBudget", name)["spec"]["selector"] == {
            "matchLabels": labels
        }
        spread = manifest["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert all(each["labelSelector"]["matchLabels"] == labels for each in spread)


def test_what_scales_says_by_what() -> None:
    assert "replicas" not in named("all", "Deployment", "af-worker-bulk")["spec"]
    assert named("all", "Deployment", "af-worker-default")["spec"]["replicas"] == 3
    spec = named("all", "ScaledObject", "af-worker-bulk")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 7)
    depth, age = (trigger["metadata"] for trigger in spec["triggers"])
    assert 'agentflow_queue_depth{queue=~"bulk|night"}' in depth["query"]
    # What runs holds its pod: without it a queue that has just been emptied would end all of them.
    assert 'agentflow_running{namespace="ns",pod=~"af-worker-bulk-.*"}' in depth["query"]
    assert depth["threshold"] == "40"
    assert 'agentflow_oldest_seconds{queue=~"bulk|night"}' in age["query"]
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["policies"][0]["periodSeconds"] >= 120


def test_nothing_is_reached_but_what_is_named() -> None:
    base = named("all", "NetworkPolicy", "af")["spec"]
    assert base["policyTypes"] == ["Ingress", "Egress"] and base["ingress"] == []
    # For every pod: its labels are the selector's.
    own = base["podSelector"]["matchLabels"]
    for manifest in rendered("all"):
        if template := manifest.get("spec", {}).get("template"):
            assert own.items() <= template["metadata"]["labels"].items()
    ports = {
        each["metadata"]["name"]: [
            port["port"] for rule in each["spec"].get("ingress", []) for port in rule["ports"]
        ]
        for each in rendered("all")
        if each["kind"] == "NetworkPolicy"
    }
    assert ports == {
        "af": [],
        "af-metrics": [9100],
        "af-workers": [],
        "af-nats": [4222, 6222],
        "af-gateway": [8849],
    }
    assert {4318} <= {port["port"] for rule in base["egress"] for port in rule["ports"]}


def test_prometheus_finds_the_figures() -> None:
    monitor = named("all", "ServiceMonitor", "af")["spec"]
    service = named("all", "Service", "af-metrics")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    for name in ("af-master", "af-worker-default", "af-worker-bulk"):
        template = named("all", "Deployment", name)["spec"]["template"]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


def test_an_image_is_named_by_its_digest_where_one_is_given() -> None:
    (container,) = dict(pods("all"))["af-master"]["containers"]
    assert container["image"] == f"r/agentflow@sha256:{'a' * 64}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"worker": {}},
        {"nats": {"enabled": False}},
        {"nats": {"url": "nats://user:secret@host:4222"}},
        {"nats": {"replicas": 2}},
        {"workers": {"Bad_Name": {"queues": ["q"]}}},
        {"workers": {"a": {"queues": ["no spaces"]}}},
        {"workers": {"a": {"queues": []}}},
        {"image": {"repository": "r", "digest": "latest"}},
        {"gateway": {"enabled": True, "ingress": {"enabled": True}}},
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_made(wrong: Manifest) -> None:
    done = helm("template", "af", str(CHART), values=wrong)
    assert done.returncode != 0, done.stdout[:500]


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_programs_take_their_arguments(variant: str) -> None:
    for name, pod in pods(variant):
        (container,) = pod["containers"]
        if "args" not in container or container["args"][0] not in COMMANDS:
            assert name in ("af-nats", "af-gateway")
            continue
        context = cli.make_context("agentflow", list(container["args"]), resilient_parsing=False)
        with context:
            command_name, command, rest = cli.resolve_command(context, list(container["args"]))
            assert command is not None and command_name
            command.make_context(command_name, rest, parent=context)


@pytest.mark.parametrize("variant", ["default", "all"])
def test_the_server_takes_its_configuration(variant: str, tmp_path: Path) -> None:
    config = named(variant, "ConfigMap", "af-nats")["data"]
    pod = dict(pods(variant))["af-nats"]
    (volume,) = (each for each in pod["volumes"] if each["name"] == "config")
    for item in volume["configMap"]["items"]:
        path = tmp_path / item["path"]
        path.parent.mkdir(exist_ok=True)
        # Without certificates, which only the cluster has.
        path.write_text(without_tls(config[item["key"]]))
    given = environment(pod["containers"][0])
    plain = {name: "e1" for name, value in given.items() if isinstance(value, dict)}
    filled = {name: expand(value, plain) for name, value in given.items() if name not in plain}
    done = subprocess.run(
        [binary(), "-t", "-c", str(tmp_path / "server.conf")],
        env=plain | filled | {"POD_NAME": "af-nats-0"},
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(filled["AGENTFLOW_ROUTES"])[2] == "nats://route:e1@af-nats-2.af-nats:6222"


def without_tls(text: str) -> str:
    kept, depth = [], 0
    for line in text.splitlines():
        if depth or line.strip().startswith("tls {"):
            depth += line.count("{") - line.count("}")
        else:
            kept.append(line)
    return "\n".join(kept)


def expand(value: str, variables: dict[str, str]) -> str:
    """$(NAME) as Kubernetes fills it in."""
    for name, text in variables.items():
        value = value.replace(f"$({name})", text)
    return value


def test_the_plain_manifests_are_those_of_the_chart() -> None:
    done = subprocess.run(
        [str(ROOT / "tools/kustomize"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kustomization = YAML(typ="safe").load(ROOT / "deploy/kustomize/kustomization.yaml")
    assert all((ROOT / "deploy/kustomize" / name).is_file() for name in kustomization["resources"])
