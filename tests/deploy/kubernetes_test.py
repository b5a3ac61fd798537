"""Everything that deploy/kubernetes ships, rendered, and held against Kubernetes' schemas, the
flags and routes of the program, and one another."""

import base64
import copy
import functools
import re
import subprocess
import tomllib

import helm_python
import jsonschema
import kubernetes_validate
import manifests
import pytest
import yaml
from manifests import BINARY, ROOT

# Else it reads all definitions again for each object.
kubernetes_validate.utils.schema_contents = functools.cache(
    kubernetes_validate.utils.schema_contents
)
VERSIONS = list(dict.fromkeys(kubernetes_validate.utils.all_versions()))[-2:]  # The newest.
CRDS = yaml.safe_load((ROOT / "tests" / "deploy" / "crds.yml").read_text())
STATUS_ROUTES = (ROOT / "coordinator" / "api" / "status_routes.cc").read_text()
MEBI = 1 << 20
RESERVE_BYTES = 512 * MEBI  # What a worker leaves free; see less_reserve() in base/memory.cc.


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return manifests.everything(tmp_path_factory.mktemp("deploy"))


@pytest.fixture(scope="module")
def pods(objects):
    """(where it is from, pod template) of everything."""
    return [
        (f"{source}: {document['metadata'].get('name')}: {what}", template)
        for source, documents in objects.items()
        for document in documents
        for what, template in manifests.pod_templates(document)
    ]


@pytest.fixture(scope="module")
def processes(pods):
    """(where, pod template, container, [command, flag...]) of each container that runs pregate."""
    return [
        (where, template, container, command)
        for where, template in pods
        for container in template["spec"]["containers"]
        for command in manifests.pregate_commands(container.get("args", []))
    ]


def flag(command, name):
    values = [word.split("=", 1)[1] for word in command if word.startswith(f"--{name}=")]
    return values[0] if values else None


def validate(document, version):
    """Raises jsonschema.ValidationError; fields that do not exist are errors too."""
    crd = CRDS.get(document["kind"])
    if crd is None:
        kubernetes_validate.validate(document, version, strict=True)
        return
    assert document["apiVersion"] == crd["apiVersion"]
    jsonschema.validate(document["spec"], {"additionalProperties": False} | crd["spec"])
    for _, template in manifests.pod_templates(document):
        metadata = {"name": "pod"} | template.get("metadata", {})
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(objects, version):
    # Most overlays share most objects.
    different = {yaml.safe_dump(o): o for documents in objects.values() for o in documents}
    for document in different.values():
        validate(document, version)


def break_field(document):
    document["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}


def break_type(document):
    document["spec"]["replicas"] = "two"


@pytest.mark.parametrize("damage", [break_field, break_type])
def test_a_wrong_object_is_not_valid(objects, damage):
    workers = [o for o in objects["overlays/cpu"] if o["kind"] == "StatefulSet"]
    document = copy.deepcopy(workers[0])
    damage(document)
    with pytest.raises(jsonschema.ValidationError):
        validate(document, VERSIONS[-1])


def test_a_wrong_custom_resource_is_not_valid(objects):
    for source, kind in (("extras/monitoring", "ServiceMonitor"), ("variants/mpijob", "MPIJob")):
        document = copy.deepcopy(next(o for o in objects[source] if o["kind"] == kind))
        document["spec"]["endpoint"] = []
        with pytest.raises(jsonschema.ValidationError):
            validate(document, VERSIONS[-1])


def test_without_secrets_nothing_is_rendered(tmp_path):
    folder = manifests.copy_with_secrets(tmp_path)
    (folder / "base" / "secrets" / "api.keys").unlink()
    with pytest.raises(ValueError, match="api.keys"):
        manifests.kustomize(folder / "overlays" / "cpu")
    with pytest.raises(helm_python.HelmError, match=r"secrets\.apiKeys"):
        manifests.helm({"secrets": {"apiKeys": ""}})


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicaCount": 3}, "replicaCount"),
        ({"pools": {"worker": {"replicas": -1}}}, "replicas"),
        ({"pools": {"Worker_1": {"replicas": 1}}}, "Worker_1"),
        ({"pools": {"worker": {"replica": 1}}}, "replica"),
        ({"pools": {"worker": {"replicas": 1, "image": {"name": "pregate"}}}}, "name"),
        ({"pools": {"worker": {"replicas": 1, "env": {"PREGATE-DEVICE": "cuda"}}}}, "DEVICE"),
        ({"worker": {"env": {"POD_NAME": "worker"}}}, "POD_NAME"),
        ({"worker": {"env": {"PREGATE_DEVICE": 0}}}, "PREGATE_DEVICE"),
        ({"settings": {"model": "tiny"}}, "model"),
        ({"settings": {"coordinator": {"replicas": [2]}}}, "replicas"),
        ({"secrets": {"clusterSecret": "short"}}, "clusterSecret"),
        ({"worker": {"resources": {"limits": {"cpu": "two"}}}}, "cpu"),
        ({"worker": {"resources": {"limits": {"cpu": "2", "memory": "lots"}}}}, "memory"),
        ({"modelVolume": {"hostPath": "models"}}, "hostPath"),
        ({"modelVolume": {"hostPath": "/m", "existingClaim": "m"}}, "existingClaim"),
        ({"coordinator": {"service": {"port": 70000}}}, "port"),
        ({"autoscaling": {"enabled": True, "pool": "none"}}, "autoscaling.pool: none"),
        ({"autoscaling": {"enabled": True, "minReplicas": 9}}, "minReplicas"),
    ],
)
def test_chart_refuses_what_cannot_work_by_its_name(values, named):
    with pytest.raises(helm_python.HelmError) as refusal:
        manifests.helm(values)
    assert named in str(refusal.value)


def test_chart_is_clean():
    values = {"secrets": manifests.SECRETS}
    result = helm_python.lint(manifests.CHART, values=values, strict=True)
    errors = [each for each in result["messages"] if each["error"] != "icon is recommended"]
    assert not errors and not result["errors"]


def settings_of(documents):
    settings = next(o for o in documents if o["kind"] == "ConfigMap")
    return tomllib.loads(settings["data"]["pregate.toml"])


def normalized(value):
    """Without what the two tools add of their own, and without the order of named things."""
    if isinstance(value, dict):
        left_out = ("annotations", "imagePullPolicy", "namespace", "app.kubernetes.io/version")
        left_out += ("app.kubernetes.io/managed-by", "helm.sh/chart")
        return {key: normalized(each) for key, each in value.items() if key not in left_out}
    if isinstance(value, list):
        named = all(isinstance(each, dict) and "name" in each for each in value)
        items = sorted(value, key=lambda each: each["name"]) if named else value
        return [normalized(each) for each in items]
    if isinstance(value, str):  # kustomize adds a hash of the content to these names.
        return re.sub(r"^(pregate-(?:settings|secrets))-[a-z0-9]{10}$", r"\1", value)
    return value


def by_name(documents):
    kept = (o for o in documents if o["kind"] not in ("Namespace", "ConfigMap", "Secret"))
    return {(o["kind"], o["metadata"]["name"]): normalized(o) for o in kept}


@pytest.mark.parametrize(("overlay", "file"), [("cpu", None), ("mixed", "values-mixed.yaml")])
def test_chart_and_overlay_are_the_same_cluster(objects, overlay, file):
    ours = manifests.helm(manifests.helm_values(file) if file else {})
    theirs = objects[f"overlays/{overlay}"]
    assert by_name(ours) == by_name(theirs)
    settings = {key: value for key, value in settings_of(ours).items() if value != {}}
    assert settings == settings_of(theirs)


def test_chart_and_extras_are_the_same(objects):
    enabled = {"serviceMonitor": {"enabled": True}, "autoscaling": {"enabled": True}}
    ours = by_name(manifests.helm(enabled))
    for theirs in (objects["extras/monitoring"], objects["extras/autoscaling"]):
        for key, document in by_name(theirs).items():
            assert ours[key] == document


def test_two_releases_share_nothing():
    first, second = (manifests.helm(name=name) for name in ("first", "second"))
    names = [{(o["kind"], o["metadata"]["name"]) for o in objects} for objects in (first, second)]
    assert names[0].isdisjoint(names[1])
    for document in first:
        if document["kind"] == "Service":
            assert document["spec"]["selector"]["app.kubernetes.io/instance"] == "first"


def test_every_flag_and_setting_exists(objects, processes):
    assert {command[0] for _, _, _, command in processes} == {"coordinator", "worker"}
    for where, _, container, command in processes:
        known = manifests.flags_of(command[0])
        for word in command[1:]:
            assert word.startswith("--") and word[2:].split("=")[0] in known, f"{where}: {word}"
        settable = known.keys() | manifests.flags_of("admin").keys()
        for variable in container.get("env", []):
            name = variable["name"]
            if name.startswith("PREGATE_"):
                key = name.removeprefix("PREGATE_").lower().replace("_", "-")
                assert key in settable, f"{where}: {name}"
    for documents in (objects["overlays/cpu"], objects["helm"]):
        for key, value in settings_of(documents).items():
            if isinstance(value, dict):
                assert value.keys() <= manifests.flags_of(key).keys(), key
            else:
                assert key in manifests.flags_of("worker"), key


@pytest.mark.parametrize(
    ("source", "gpu_workers"),
    [
        ("overlays/cpu", set()),
        ("overlays/gpu", {"pregate-worker"}),
        ("overlays/mixed", {"pregate-worker-gpu"}),
        ("helm", set()),
        ("helm with all", {"pregate-worker-gpu"}),
    ],
)
def test_who_computes_on_a_gpu_has_one_and_the_module(objects, source, gpu_workers):
    found = set()
    for document in objects[source]:
        for _, template in manifests.pod_templates(document):
            container = template["spec"]["containers"][0]
            variables = {each["name"]: each.get("value") for each in container["env"]}
            image, tag = container["image"].split(":")
            assert tag == "0.1.0"
            if "nvidia.com/gpu" in container["resources"]["limits"]:
                found.add(document["metadata"]["name"])
                assert (image, variables["PREGATE_DEVICE"]) == ("pregate-cuda", "cuda")
                assert template["spec"]["nodeSelector"] and template["spec"]["tolerations"]
            else:
                assert image == "pregate" and "PREGATE_DEVICE" not in variables
                assert "nodeSelector" not in template["spec"]
    assert found == gpu_workers


def test_a_pool_has_what_all_have_but_where_it_says_so():
    values = {
        "image": {"repository": "registry.example/pregate", "tag": "1", "pullPolicy": "Always"},
        "worker": {"env": {"PREGATE_LOG_LEVEL": "debug"}},
        "pools": {"worker": {"replicas": 1, "image": {"tag": "2"}, "env": {"PREGATE_DEVICE": "0"}}},
    }
    pods = {
        document["kind"]: template["spec"]["containers"][0]
        for document in manifests.helm(values)
        for _, template in manifests.pod_templates(document)
    }
    assert pods["Deployment"]["image"] == "registry.example/pregate:1"
    assert pods["StatefulSet"]["image"] == "registry.example/pregate:2"
    assert {pod["imagePullPolicy"] for pod in pods.values()} == {"Always"}
    variables = {each["name"]: each.get("value") for each in pods["StatefulSet"]["env"]}
    assert variables.items() >= {"PREGATE_LOG_LEVEL": "debug", "PREGATE_DEVICE": "0"}.items()
    assert "PREGATE_DEVICE" not in [each["name"] for each in pods["Deployment"]["env"]]


def test_probes_ask_what_is_answered(processes):
    for where, _, container, command in processes:
        if "MPIJob" in where:
            continue  # The launcher; ranks are started by sshd.
        port = int(flag(command, "port") or flag(command, "metrics-port"))
        assert port in [each["containerPort"] for each in container["ports"]], where
        assert flag(command, "host") == "0.0.0.0", where
        for probe, path in (
            ("startupProbe", "/health/live"),
            ("livenessProbe", "/health/live"),
            ("readinessProbe", "/health/ready"),
        ):
            asked = container[probe]["httpGet"]
            assert asked == {"path": path, "port": port}, f"{where}: {probe}"
            assert f'path == "{path}"' in STATUS_ROUTES


def test_nothing_is_privileged(pods):
    for where, template in pods:
        spec = template["spec"]
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["runAsUser"] > 0 and pod["runAsGroup"] > 0, where
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert spec["automountServiceAccountToken"] is False, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), where
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), where
        assert "initContainers" not in spec, where
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, where
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), where


def test_kubernetes_sets_no_flag_by_chance(processes):
    for where, template, _, _ in processes:
        assert template["spec"]["enableServiceLinks"] is False, where


def seconds(text):
    assert text.endswith("s") and not text.endswith("ms"), text
    return float(text.removesuffix("s"))


def test_there_is_time_to_drain(processes):
    for where, template, container, command in processes:
        if "MPIJob" in where:
            continue  # Is not drained.
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain = seconds(manifests.flags_of(command[0])["drain-timeout"])
        assert template["spec"]["terminationGracePeriodSeconds"] > sleep + drain, where


def test_only_coordinators_have_the_keys(objects):
    for documents in objects.values():
        for document in documents:
            for _, template in manifests.pod_templates(document):
                for volume in template["spec"].get("volumes", []):
                    items = [each["key"] for each in volume.get("secret", {}).get("items", [])]
                    is_worker = "metadata" in template and (
                        template["metadata"].get("labels", {}).get("app.kubernetes.io/component")
                        == "worker"
                    )
                    if is_worker and "secret" in volume:
                        assert items == ["cluster.secret"]


def selected(selector, documents):
    """Pod templates with these labels."""
    return [
        template
        for document in documents
        for _, template in manifests.pod_templates(document)
        if selector.items() <= template.get("metadata", {}).get("labels", {}).items()
    ]


@pytest.mark.parametrize(
    "source", [*(f"overlays/{name}" for name in manifests.OVERLAYS), "helm with all"]
)
def test_selectors_find_pods(objects, source):
    documents = objects[source]
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            pods = selected(spec["selector"], documents)
            assert pods
            for pod in pods:
                ports = {p["name"] for p in pod["spec"]["containers"][0]["ports"]}
                assert {port["targetPort"] for port in spec["ports"]} <= ports
        elif document["kind"] == "PodDisruptionBudget":
            assert selected(spec["selector"]["matchLabels"], documents)
        elif document["kind"] in ("Deployment", "StatefulSet"):
            labels = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"].items() <= labels.items()
            # No other pods are taken for this one's.
            assert len(selected(spec["selector"]["matchLabels"], documents)) == 1
    services = {o["metadata"]["name"] for o in documents if o["kind"] == "Service"}
    for document in documents:
        if document["kind"] == "StatefulSet":
            assert document["spec"]["serviceName"] in services


def test_workers_join_a_coordinator_that_is_not_ready(objects, processes):
    for where, _, _, command in processes:
        if command[0] == "worker" and not where.startswith("variants"):
            host, port = flag(command, "join").rsplit(":", 1)
            documents = objects[where.split(":")[0]]
            service = next(
                o
                for o in documents
                if (o["kind"], o["metadata"]["name"]) == ("Service", host)
            )["spec"]
            assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"]
            assert [each["port"] for each in service["ports"]] == [int(port)]


def test_service_monitor_gives_the_labels_that_rules_rely_on(objects):
    page = ROOT / "monitoring" / "prometheus" / "prometheus-kubernetes.yml"
    job = yaml.safe_load(page.read_text())["scrape_configs"][0]
    expected = [each for each in job["relabel_configs"] if "target_label" in each]
    monitor = objects["extras/monitoring"][0]["spec"]
    for endpoint in monitor["endpoints"]:
        ours = [
            {re.sub("[A-Z]", lambda m: "_" + m.group().lower(), key): v for key, v in each.items()}
            for each in endpoint["relabelings"]
        ]
        assert ours == expected
    kept = [each["regex"] for each in job["relabel_configs"] if each.get("action") == "keep"]
    assert "coordinator;http|worker;metrics" in kept
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == ["http", "metrics"]


def to_bytes(text):
    number, unit = re.fullmatch(r"([0-9.]+) ?([KMG]i?B?)?", text).groups()
    factors = {None: 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return float(number) * factors[unit and unit[0]]


def test_memory_is_what_inspect_says(objects):
    """The rule of docs/deploy.md, for the model that ships."""
    settings = settings_of(objects["overlays/cpu"])
    documents = {o["kind"]: o for o in objects["overlays/cpu"]}
    model = ROOT / settings["model"].lstrip("/")
    num_workers = documents["StatefulSet"]["spec"]["replicas"]
    command = [BINARY, "inspect", model, "-n", str(num_workers), "--weights", settings["weights"]]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    backbone = to_bytes(re.search(r"^coordinator +([0-9.]+ \w+) and", page, re.M).group(1))
    share = to_bytes(re.search(r"^worker 1 +([0-9.]+ \w+) for", page, re.M).group(1))
    cache = to_bytes(settings["coordinator"]["kv-cache-bytes"])
    needed = {
        "Deployment": backbone + cache + RESERVE_BYTES,
        "StatefulSet": share * settings["coordinator"]["replicas"] + RESERVE_BYTES,
    }
    for kind, least in needed.items():
        container = documents[kind]["spec"]["template"]["spec"]["containers"][0]
        assert to_bytes(container["resources"]["requests"]["memory"]) >= least, kind


def test_secrets_are_those_that_were_made(tmp_path):
    folder = manifests.copy_with_secrets(tmp_path)
    rendered = manifests.kustomize(folder / "overlays" / "cpu")
    data = next(o for o in rendered if o["kind"] == "Secret")["data"]
    files = list((folder / "base" / "secrets").iterdir())
    assert {file.name for file in files} == data.keys()
    for file in files:
        assert base64.b64decode(data[file.name]) == file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0
    assert len({file.read_bytes() for file in files}) == len(files)
