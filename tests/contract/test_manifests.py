"""What the manifests name exists in the code, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from contract.rendered import (
    COMPONENTS,
    K8S,
    OVERLAYS,
    ROOT,
    SETTINGS,
    Manifest,
    combine,
    container,
    environment,
    named,
    overlay,
    pods,
)
from geofix.capacity import measured
from geofix.probe import HEALTH_NAMES
from geofix.settings import ServiceSettings, Settings
from geofix.variables import known_variables

VERSION = "1.34"
"""Of Kubernetes, whose schemas the manifests pass strictly."""
CUSTOM = {"ScaledObject": "keda.sh_scaledobjects.yaml", "GRPCRoute": "grpcroutes.yaml"}
CERT_MANAGER = "cert-manager.io/v1"
SERVICES = tuple(SETTINGS)
MATRIX = [(name, chosen) for name in OVERLAYS for chosen in [(), *((each,) for each in COMPONENTS), tuple(COMPONENTS)]]
each_overlay = pytest.mark.parametrize("name", OVERLAYS)
each_service = pytest.mark.parametrize("service", SERVICES)


@pytest.mark.parametrize(
    ("name", "components"), MATRIX, ids=lambda value: value if isinstance(value, str) else "+".join(value) or "plain"
)
def test_every_overlay_with_every_component_builds_and_passes_the_schemas(
    name: str, components: tuple[str, ...], tmp_path: Path
) -> None:
    manifests = combine(name, components, tmp_path)
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM and manifest["apiVersion"] != CERT_MANAGER:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
    for pod_name, pod in pods(manifests).items():
        check_restricted(pod_name, pod)
    for service in SERVICES:  # no combination takes a setting away or adds one that is not there
        settings_of(manifests, service)


def test_custom_resources_pass_their_own_schemas(shared_data: Path, tmp_path: Path) -> None:
    import jsonschema

    manifests = combine("prod", tuple(COMPONENTS), tmp_path)
    checked = set()
    for manifest in manifests:
        if manifest["kind"] in CUSTOM:
            definition = yaml.safe_load((shared_data.parent / "schemas" / CUSTOM[manifest["kind"]]).read_text())
            version = manifest["apiVersion"].split("/")[1]
            (schema,) = [v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == version]
            jsonschema.validate(manifest, closed(schema))
            checked.add(manifest["kind"])
    assert checked == set(CUSTOM)


def closed(schema: Any) -> Any:
    """The schema, strictly: a property that it does not name is an error, as `kubectl --validate=strict` has it."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    keeps = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not keeps:
        found.setdefault("additionalProperties", False)
        if "metadata" in schema["properties"]:
            found["properties"]["metadata"] = {"type": "object"}
    return found


def check_restricted(name: str, pod: Manifest) -> None:
    """The restricted Pod Security Standard, and what else every pod of ours has."""
    assert pod["securityContext"]["runAsNonRoot"] is True, name
    assert pod["securityContext"]["runAsUser"] > 0, name
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
    assert pod["automountServiceAccountToken"] is False, name
    assert pod["enableServiceLinks"] is False, name
    for each in [*pod.get("initContainers", []), *pod["containers"]]:
        context = each["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, each["name"]
        assert context["readOnlyRootFilesystem"] is True, each["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, each["name"]
        assert {"cpu", "memory"} <= each["resources"]["requests"].keys() & each["resources"]["limits"].keys(), each[
            "name"
        ]
        assert not re.search(r"(:latest|/[^:]*)$", each["image"]), f"{each['image']} has no version"


def settings_of(manifests: tuple[Manifest, ...] | list[Manifest], service: str) -> Settings:
    """The settings that a service's process would read in its container."""
    with pytest.MonkeyPatch.context() as patch:
        import os

        for name in [name for name in os.environ if name.startswith("GEOFIX_")]:
            patch.delenv(name)
        for name, value in environment(manifests, container(pods(manifests)[service])).items():
            patch.setenv(name, value)
        return SETTINGS[service].from_environment()


@each_overlay
@each_service
def test_the_settings_are_those_that_the_service_reads(name: str, service: str) -> None:
    manifests = overlay(name)
    found = settings_of(manifests, service)  # complete, in range, and none that nothing reads
    own = container(pods(manifests)[service]).get("env", [])
    fields = {f"GEOFIX_{field.upper()}" for field in type(found).model_fields}
    assert {each["name"] for each in own} <= fields, "set on this container, read by another"


def test_every_variable_in_manifests_and_compose_files_is_known() -> None:
    files = [
        *K8S.rglob("*.yaml"),
        *K8S.rglob("*.env"),
        *K8S.rglob("*.json"),
        *ROOT.glob("docker-compose*.yml"),
        ROOT / "Dockerfile",
    ]
    for file in files:
        named_here = set(re.findall(r"\bGEOFIX_[A-Z0-9_]+", file.read_text()))
        assert named_here <= known_variables(Settings), file


def test_every_limit_of_the_services_stands_in_the_manifests_at_its_default() -> None:
    lines = (K8S / "base/settings.env").read_text().splitlines()
    stated = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    limits = {
        f"GEOFIX_{name.upper()}": field.default
        for name, field in ServiceSettings.model_fields.items()
        if name.startswith(("max_", "default_", "drain_"))
    }
    assert {name: float(stated.get(name, "nan")) for name in limits} == {n: float(d) for n, d in limits.items()}


@each_overlay
@each_service
def test_ports_and_probes_are_those_of_the_code(name: str, service: str) -> None:
    manifests = overlay(name)
    served = container(pods(manifests)[service])
    settings = settings_of(manifests, service)
    ports = {each["name"]: each["containerPort"] for each in served["ports"]}
    port = int(str(settings.listen).rpartition(":")[2])  # type: ignore[attr-defined]
    probes = {kind: served[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
    if service == "web":
        assert ports == {"http": port}
        assert {p["httpGet"]["port"] for p in probes.values()} == {"http"}
        source = (ROOT / "services/geofix_web").rglob("*.py")
        code = "".join(path.read_text() for path in source)
        assert all(f'"{probe["httpGet"]["path"]}"' in code for probe in probes.values())
    else:
        assert isinstance(settings, ServiceSettings)
        assert ports == {"grpc": port, "metrics": int(settings.metrics_listen.rpartition(":")[2])}
        assert {kind: probe["grpc"] for kind, probe in probes.items()} == {
            "startupProbe": {"port": port, "service": ""},
            "livenessProbe": {"port": port, "service": ""},
            "readinessProbe": {"port": port, "service": HEALTH_NAMES[service]},
        }
    (exposed,) = named(manifests, "Service", service)["spec"]["ports"]
    assert (exposed["port"], exposed["targetPort"]) == (port, exposed["name"])


def test_the_names_that_health_answers_to_are_those_of_the_services() -> None:
    for service, name in HEALTH_NAMES.items():
        code = (ROOT / f"services/geofix_{service}/service.py").read_text()
        assert f'full_name = "{name}"' in code
        assert f"service {name.rpartition('.')[2]} " in "".join(
            p.read_text() for p in (ROOT / "proto/geofix/v1").glob("*.proto")
        )


@each_overlay
@each_service
def test_a_pod_has_the_time_to_drain(name: str, service: str) -> None:
    manifests = overlay(name)
    pod = pods(manifests)[service]
    settings = settings_of(manifests, service)
    pause = container(pod)["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = getattr(settings, "drain_delay_s", 0.0) + settings.drain_s  # type: ignore[attr-defined]
    assert pod["terminationGracePeriodSeconds"] >= pause + drain + 5


@each_overlay
def test_addresses_lead_to_services_and_labels_to_pods(name: str) -> None:
    manifests = overlay(name)
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in manifests
        if each["kind"] == "Deployment"
    }
    services = {each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == "Service"}
    for service, spec in services.items():
        assert spec["selector"].items() <= labels[service].items()
    for service in SERVICES:
        for variable, value in environment(manifests, container(pods(manifests)[service])).items():
            if match := re.fullmatch(r"(?:dns:///|rediss?://)([a-z-]+):(\d+)(?:/.*)?", value):
                assert int(match[2]) in {p["port"] for p in services[match[1]]["ports"]}, variable


def test_in_production_every_service_scales_and_survives_a_drain_of_nodes() -> None:
    manifests = overlay("prod")
    for service in SERVICES:
        scaler = named(manifests, "HorizontalPodAutoscaler", service)["spec"]
        assert (scaler["minReplicas"] >= 3, scaler["scaleTargetRef"]["name"]) == (True, service)
        budget = named(manifests, "PodDisruptionBudget", service)["spec"]
        assert budget["selector"]["matchLabels"] == {"app.kubernetes.io/name": service}
        assert (
            pods(manifests)[service]["serviceAccountName"]
            == named(manifests, "ServiceAccount", service)["metadata"]["name"]
        )
        assert pods(manifests)[service]["topologySpreadConstraints"]


@each_overlay
def test_no_secret_is_a_variable_of_a_service(name: str) -> None:
    """Variables show in `kubectl describe` and in crash dumps, and stay as they are when a Secret changes."""
    for service in SERVICES:
        for each in container(pods(overlay(name))[service]).get("env", []):
            assert "valueFrom" not in each, (service, each["name"])
            assert not re.search(r"://[^/]*@", each["value"]), (service, each["name"])


def test_requests_and_limits_are_those_of_the_measured_use() -> None:
    """A pod has the most memory that its service was seen to take, a quarter more before it is ended, and a core."""
    memory_mib = measured().memory_mib
    for name in OVERLAYS:
        for service, most_mib in memory_mib.items():
            resources = container(pods(overlay(name))[service])["resources"]
            requests, limits = resources["requests"], resources["limits"]
            assert mebibytes(requests["memory"]) >= most_mib, (name, service)
            assert mebibytes(limits["memory"]) >= 1.25 * mebibytes(requests["memory"]), (name, service)
            assert cores_of(limits["cpu"]) >= 1, (name, service)


def mebibytes(quantity: str) -> int:
    factor = {"Mi": 1, "Gi": 1024}[quantity[-2:]]
    return int(quantity[:-2]) * factor


def cores_of(quantity: str | int) -> float:
    text = str(quantity)
    return int(text[:-1]) / 1000 if text.endswith("m") else float(text)


def test_network_policies_open_exactly_the_edges_of_the_settings(tmp_path: Path) -> None:
    manifests = combine("prod", ("network-policies",), tmp_path)
    edges = set()
    for service, cls in SETTINGS.items():
        for field, about in cls.model_fields.items():
            if field.endswith("_addr") and about.is_required():  # an optional one is not set here, and opens nothing
                edges.add((service, field.removesuffix("_addr"), 50051))
        if "redis_url" in cls.model_fields:
            edges.add((service, "redis", 6379))
        if "milvus_uri" in cls.model_fields:
            edges |= {(service, "milvus", 19530), ("load-gallery", "milvus", 19530)}
    policies = {each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"}
    out = {
        (name.removeprefix("from-"), peer_name(rule["to"][0]), rule["ports"][0]["port"])
        for name, spec in policies.items()
        if name.startswith("from-")
        for rule in spec["egress"]
    }
    into = {
        (peer_name(peer), name.removeprefix("to-"), rule["ports"][0]["port"])
        for name, spec in policies.items()
        if name.startswith("to-")
        for rule in spec["ingress"]
        for peer in rule["from"]
    }
    assert out == into == edges
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def peer_name(peer: Manifest) -> str:
    return str(peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"])


def test_keda_asks_for_metrics_that_are_emitted() -> None:
    documented = set(re.findall(r"^\| `(geofix_\w+)`", (ROOT / "docs/observability.md").read_text(), re.MULTILINE))
    asked = re.findall(r"geofix_\w+(?=\{)", (K8S / "components/keda/scaledobjects.yaml").read_text())
    assert asked
    assert set(asked) <= documented


def test_the_gpu_component_asks_for_cuda_on_one_gpu(tmp_path: Path) -> None:
    manifests = combine("prod", ("gpu",), tmp_path)
    served = container(pods(manifests)["classifier"])
    assert environment(manifests, served)["GEOFIX_PROVIDERS"] == "CUDAExecutionProvider"
    assert served["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert served["image"].endswith("-gpu")


def test_the_tls_component_gives_every_service_a_certificate_of_its_name(tmp_path: Path) -> None:
    manifests = combine("prod", ("tls",), tmp_path)
    for service in SERVICES:
        settings = settings_of(manifests, service)
        files = settings.tls  # type: ignore[attr-defined]
        pod = pods(manifests)[service]
        (secret,) = [v["secret"]["secretName"] for v in pod["volumes"] if v["name"] == "tls"]
        (mounted,) = [v["mountPath"] for v in container(pod)["volumeMounts"] if v["name"] == "tls"]
        # The names that a Secret of cert-manager has.
        assert (files.cert, files.key, files.ca) == tuple(Path(mounted) / n for n in ("tls.crt", "tls.key", "ca.crt"))
        certificate = named(manifests, "Certificate", service)["spec"]
        assert certificate["secretName"] == secret
        assert service in certificate["dnsNames"]
        assert (
            named(manifests, "Issuer", certificate["issuerRef"]["name"])["spec"]["ca"]["secretName"]
            == (named(manifests, "Certificate", "authority")["spec"]["secretName"])
        )
        if isinstance(settings, ServiceSettings):
            port = int(settings.health_listen.rpartition(":")[2])
            probes = ("startupProbe", "readinessProbe", "livenessProbe")
            assert {container(pod)[probe]["grpc"]["port"] for probe in probes} == {port}
            assert port in {each["containerPort"] for each in container(pod)["ports"]}
