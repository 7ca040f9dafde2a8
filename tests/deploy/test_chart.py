"""Collaboration: the chart, rendered by helm; what comes out is held against Kubernetes' own schemas, and
against what the launcher does and orders."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from common.settings import GatewaySettings, WorkerSettings, read_settings
from gateway.launchers.ids import WorkerId
from gateway.launchers.kubernetes.launcher import open_kubernetes
from gateway.launchers.kubernetes.pods import check_template, make_pod, names_image, service_label
from gateway.launchers.launcher import WorkerSpec
from tests.deploy.conftest import CHART, ROOT
from tests.services.fake_kubernetes import open_kubernetes_api, write_kubeconfig
from tests.services.kubernetes_admission import admit

pytestmark = pytest.mark.apart

VERSIONS = ["1.25", "1.37"]  # the oldest that Chart.yaml takes, and the newest there is a schema of
VALUES = {
    "as it comes": {},
    "down to none": {"workers.min": 0, "rbac.nodes": True},
    "from a file": {"workers.launcher": "deployment", "networkPolicy.enabled": False},
    "as the queue asks": {"workers.launcher": "deployment", "workers.autoscaling.enabled": True},
    "a single one": {"workers.launcher": "deployment", "workers.replicas": 1, "gateway.grpc": False},
    "everything": {
        "image": {"repository": "r/pipeline", "tag": "2", "pullPolicy": "Always", "pullSecrets": ["key"]},
        "gateway.arguments": ["--models", "/models", "--queue_max=5"],
        "gateway.volumes": [{"name": "models", "emptyDir": {}}],
        "gateway.volumeMounts": [{"name": "models", "mountPath": "/models"}],
        "gateway.service": {"type": "LoadBalancer", "annotations": {"a.example/b": "c"}},
        "gateway.state": {"size": "1Ti", "storageClass": "fast"},
        "gateway.nodeSelector": {"disk": "fast"},
        "gateway.tolerations": [{"operator": "Exists"}],
        "gateway.affinity": {"nodeAffinity": {}},
        "workers.gpus": 1,
        "workers.cpus": 1.5,
        "workers.template": {
            "metadata": {"annotations": {"a": "b"}, "labels": {"team": "search"}},
            "spec": {
                "nodeSelector": {"gpu": "yes"},
                "volumes": [{"name": "cache", "emptyDir": {}}],
                "containers": [
                    {"name": "worker", "volumeMounts": [{"name": "cache", "mountPath": "/cache"}]},
                    {"name": "logs", "image": "logs:1", "securityContext": {
                        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}},
                ],
            },
        },
        "networkPolicy.clients": [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}],
    },
}  # fmt: skip
VALUES["everything from a file"] = VALUES["everything"] | {"workers.launcher": "deployment"}


@pytest.fixture(params=VALUES)
def objects(request, render):
    return render(VALUES[request.param])


def of_kind(objects, kind):
    return [each for each in objects if each["kind"] == kind]


def pods_of(objects):
    """Every Pod that a controller among these would make."""
    templates = [each for each in objects if each["kind"] in ("StatefulSet", "Deployment")]
    for each in templates:
        pod = {"apiVersion": "v1", "kind": "Pod", **each["spec"]["template"]}
        yield pod | {"metadata": {**pod["metadata"], "name": each["metadata"]["name"]}}


def workers_of(objects):
    """The Pods of workers, whoever makes them."""
    templates = [each["data"]["worker.yaml"] for each in of_kind(objects, "ConfigMap")]
    for each in templates:
        template = yaml.safe_load(each)
        check_template(template)
        assert names_image(template)
        spec = WorkerSpec(service="pipeline", gpus=1, memory=1 << 30)
        yield make_pod(WorkerId("pipeline", 0, 1), spec, image=None, template=template)
    yield from (pod for pod in pods_of(objects) if "worker" in names_of(pod))


def names_of(pod):
    return [each["name"] for each in pod["spec"]["containers"]]


def selects(selector, labels):
    return selector.items() <= labels.items()


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(objects, version):
    import kubernetes_validate

    for each in [*objects, *workers_of(objects)]:
        kubernetes_validate.validate(each, version, strict=True)


def test_the_linter_finds_nothing(run):
    done = run("helm", "lint", "--strict", str(CHART))
    assert (done.returncode, "WARNING" in done.stdout) == (0, False), done.stdout


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("workers.launcher=docker", "workers/launcher"),
        ("workers.minimum=3", "minimum"),
        ("worker.min=3", "worker"),
        ("workers.memory=2GB", "workers/memory"),
        ("gateway.arguments=--watch", "gateway/arguments"),
        ("workers.cpus=0", "workers/cpus"),
        ("workers.template.containers=3", "containers"),
    ],
)
def test_values_that_mean_nothing_are_refused(run, setting, word):
    done = run("helm", "template", "pipeline", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert word in done.stderr


def test_every_value_has_a_schema_and_a_default():
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def names(schema, path=""):
        for name, each in schema.get("properties", {}).items():
            yield f"{path}{name}"
            yield from names(each, f"{path}{name}.")

    def given(values, schema, path=""):
        for name, each in values.items():
            yield f"{path}{name}"
            if schema["properties"].get(name, {}).get("additionalProperties") is False and isinstance(
                each, dict
            ):
                yield from given(each, schema["properties"][name], f"{path}{name}.")

    unset = {"workers.template.metadata", "workers.template.spec", "global"}  # empty by default; helm's own
    assert set(names(schema)) - unset == set(given(values, schema))


def test_every_pod_may_run_where_the_strictest_standard_holds(objects):
    pods = [*pods_of(objects), *workers_of(objects)]
    assert {"gateway", "worker"} <= {name for pod in pods for name in names_of(pod)}
    for pod in pods:
        admit(pod, "ml")
        assert pod["spec"]["enableServiceLinks"] is False
        for each in pod["spec"]["containers"]:
            assert each["name"] == "logs" or each["securityContext"]["readOnlyRootFilesystem"] is True


def test_services_and_policies_find_those_they_are_for(objects):
    [gateway] = [pod for pod in pods_of(objects) if pod["spec"]["containers"][0]["name"] == "gateway"]
    ports = {each["name"]: each["containerPort"] for each in gateway["spec"]["containers"][0]["ports"]}
    for service in of_kind(objects, "Service"):
        assert selects(service["spec"]["selector"], gateway["metadata"]["labels"])
        for each in service["spec"]["ports"]:
            assert ports[each["targetPort"]] == each["port"]
    fleet, clients = sorted(
        of_kind(objects, "Service"), key=lambda each: each["metadata"]["name"] == "pipeline"
    )
    assert fleet["spec"]["publishNotReadyAddresses"] is True
    assert "publishNotReadyAddresses" not in clients["spec"]
    for pod in workers_of(objects):
        labels = pod["metadata"]["labels"]
        assert not selects(fleet["spec"]["selector"], labels)
        for policy in of_kind(objects, "NetworkPolicy"):
            selected = policy["spec"]["podSelector"]["matchLabels"]
            assert selects(selected, labels) is not selects(selected, gateway["metadata"]["labels"])
        for budget in of_kind(objects, "PodDisruptionBudget"):
            assert selects(budget["spec"]["selector"]["matchLabels"], labels)


def test_every_program_takes_the_flags_that_it_is_given(objects):
    found = {each["name"]: each for pod in pods_of(objects) for each in pod["spec"]["containers"]}
    assert found["gateway"]["command"] == ["python", "gw.py"]
    settings = read_settings(GatewaySettings, found["gateway"]["args"], {}, prog="gw.py", description="")
    assert settings.launcher == ("local" if "worker" in found else "kubernetes")
    assert settings.state in [each["mountPath"] for each in found["gateway"]["volumeMounts"]]
    if "worker" in found:
        assert found["worker"]["command"] == ["python", "worker.py"]
        read_settings(WorkerSettings, found["worker"]["args"], {}, prog="worker.py", description="")


def test_a_single_worker_stops_no_drain(render):
    assert of_kind(render(VALUES["a single one"]), "PodDisruptionBudget") == []
    assert of_kind(render({"workers.min": 1}), "PodDisruptionBudget") == []
    [budget] = of_kind(render(), "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == 1


def test_workers_from_a_file_may_be_as_many_as_the_queue_asks_for(render):
    assert of_kind(render(VALUES["from a file"]), "HorizontalPodAutoscaler") == []
    objects = render(VALUES["as the queue asks"])
    [scaler], [deployment] = of_kind(objects, "HorizontalPodAutoscaler"), of_kind(objects, "Deployment")
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]  # or every upgrade would undo what was decided
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 8)
    [metric] = scaler["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == "pipeline_queue_requests"


def test_a_gateway_that_may_have_no_worker_is_ready_without(render):
    def probe(values):
        [gateway] = of_kind(render(values), "StatefulSet")
        [container] = gateway["spec"]["template"]["spec"]["containers"]
        return container["readinessProbe"]["httpGet"]["path"]

    assert probe({}) == "/v2/health/ready"
    assert probe({"workers.min": 0}) == "/v2/health/live"
    assert probe({"workers.min": 0, "workers.launcher": "deployment"}) == "/v2/health/ready"


def test_who_starts_no_workers_may_do_nothing(render):
    objects = render(VALUES["from a file"])
    assert [each["kind"] for each in objects if "Role" in each["kind"] or "Account" in each["kind"]] == []
    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in pods_of(objects))


async def test_the_gateway_may_do_what_it_does_and_nothing_more(render, tmp_path):
    objects = render({"rbac.nodes": True})
    allowed = {
        (each["kind"], verb, resource)
        for each in [*of_kind(objects, "Role"), *of_kind(objects, "ClusterRole")]
        for rule in each["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }
    async with open_kubernetes_api(tmp_path) as server:
        config = write_kubeconfig(tmp_path / "kubeconfig", server)
        async with open_kubernetes("pipeline", config=config, image="x") as launcher:
            [id] = await launcher.start(1, WorkerSpec())
            await launcher.capacity(WorkerSpec())
            await launcher.log(id)
            await launcher.stop(id, 1.0)
        used = {tuple(each.split(" ")) for each in server.cluster.calls}
    assert used == {each[1:] for each in allowed}
    in_cluster = {(verb, resource) for kind, verb, resource in allowed if kind == "ClusterRole"}
    assert in_cluster == {("list", "nodes"), ("list", "pods")}


def test_a_release_of_any_name_is_called_what_kubernetes_and_the_launcher_take(render):
    for release in ("a", "x" * 53, "my-pipeline", "a" * 33 + "-b"):
        [gateway] = of_kind(render(release=release), "StatefulSet")
        name = gateway["metadata"]["name"]
        assert service_label(name) == name
        assert "pipeline" in name or len(release) > 25


@pytest.mark.parametrize(
    ("name", "settings"), [("pipeline", []), ("workers-from-a-file", ["--set=workers.launcher=deployment"])]
)
def test_the_plain_manifests_are_the_chart_as_it_comes(run, name, settings):
    done: subprocess.CompletedProcess[str] = run(
        "helm", "template", "pipeline", "deploy/helm/pipeline", "--namespace=pipeline", *settings
    )
    assert (ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text() == done.stdout
