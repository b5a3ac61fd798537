"""The Dockerfile and compose.yml of deploy/docker, held against the files, flags and routes they
name. rehearse_image.py carries out the same Dockerfile in a plain Debian."""

import fnmatch
import re
import shutil
import subprocess

import dockerfile
import manifests
import pytest
import yaml
from manifests import BINARY, ROOT

DOCKER = ROOT / "deploy" / "docker"
STATUS_ROUTES = (ROOT / "coordinator" / "api" / "status_routes.cc").read_text()


@pytest.fixture(scope="module")
def instructions():
    return dockerfile.parse_file(str(DOCKER / "Dockerfile"))


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DOCKER / "compose.yml").read_text())


@pytest.fixture(scope="module")
def gpu_services():
    return yaml.safe_load((DOCKER / "compose.gpu.yml").read_text())["services"]


def hadolint(text):
    command = [manifests.tool("hadolint"), "--no-color", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True)


def test_dockerfile_is_clean():
    run = hadolint((DOCKER / "Dockerfile").read_text())
    assert run.returncode == 0, run.stdout


def test_a_bad_dockerfile_is_found():
    text = (DOCKER / "Dockerfile").read_text()
    assert "DL3002" in hadolint(f"{text}\nUSER root\n").stdout
    assert hadolint("FROM debian:12\nRUNN true\n").returncode != 0


def values_of(instructions, command):
    return [each.value for each in instructions if each.cmd.lower() == command]


def is_in_context(path):
    """Whether .dockerignore lets it through: the last pattern says, for it or a folder it is in."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        parents = ["/".join(path.split("/")[: i + 1]) for i in range(path.count("/") + 1)]
        if line and not line.startswith("#"):
            if any(fnmatch.fnmatch(parent, pattern) for parent in parents):
                kept = line.startswith("!")
    return kept


def test_what_is_copied_exists_and_is_in_the_context(instructions):
    for each in instructions:
        if each.cmd.lower() == "copy" and not each.flags:
            for source in each.value[:-1]:
                assert (ROOT / source).exists()
                assert source == "." or is_in_context(source), source


def test_the_context_is_the_sources_and_nothing_else():
    text = (ROOT / "CMakeLists.txt").read_text()
    folders = re.search(r"foreach\(folder\s+(.*?)\)", text, re.DOTALL).group(1).split()
    for folder in [*folders, "cmake"]:
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".cc", ".h", ".cmake") or file.name == "CMakeLists.txt":
                assert is_in_context(str(file.relative_to(ROOT))), file
    for path in ("CMakeLists.txt", "CMakePresets.json"):
        assert is_in_context(path)
    for path in (".git/config", "build/release/pregate", "models/pregate-tiny/config.json"):
        assert not is_in_context(path), path
    assert not is_in_context("deploy/docker/secrets/api.keys")


def test_packages_are_those_of_the_list(instructions):
    sections = re.findall(r"^\[(\w+)\]", (ROOT / "deploy" / "dependencies.txt").read_text(), re.M)
    runs = [value[0] for value in values_of(instructions, "run")]
    installed = [re.search(r"install-dependencies\.sh (\w+)", run) for run in runs]
    assert [match.group(1) for match in installed if match] == ["build", "run", "mpijob"]
    assert {match.group(1) for match in installed if match} <= set(sections)
    assert not any("apt-get" in run for run in runs)


@pytest.mark.parametrize("name", ["cuda", "nccl"])
def test_modules_are_built_only_where_they_are_asked_for(instructions, name):
    argument = name.upper()
    assert f'{argument}=""' in [value[0] for value in values_of(instructions, "arg")]
    runs = [value[0] for value in values_of(instructions, "run")]
    words = [run for run in runs if f"install-{name}.sh" in run or f"pregate_{name}.so" in run]
    assert len(words) == 2
    for run in words:
        # Nothing of it is done unless it is asked for, and what fails then fails the build.
        condition = re.search(rf'if \[ -n "\$\{{{argument}\}}" \]; then(.*); +fi$', run, re.DOTALL)
        assert condition, run
        assert name not in run[: condition.start()].lower() and "||" not in condition.group(1)


def test_the_image_has_what_was_built_and_no_more(instructions):
    copies = [each for each in instructions if each.cmd.lower() == "copy" and each.flags]
    assert [(each.flags, each.value) for each in copies] == [
        (("--from=build",), ("/image/", "/usr/local/"))
    ]


def test_the_module_is_put_where_it_is_looked_for(instructions):
    loader = (ROOT / "base" / "module.cc").read_text()
    assert 'folder.parent_path() / "lib" / "pregate" / kind.file_name' in loader
    text = " ".join(value[0] for value in values_of(instructions, "run"))
    assert "/image/bin/pregate " in text
    for file in ("pregate_cuda.so", "pregate_nccl.so", "libnccl.so.2"):
        assert f"/image/lib/pregate/{file}" in text


@pytest.mark.parametrize(
    ("name", "version"),
    [("cuda", version) for version in ("", "13.0", "11-8", "13-0 x", "13-0; true")]
    + [("nccl", version) for version in ("", "13-0", "11", "13 x", "13; true")],
)
def test_only_versions_of_cuda_are_installed(name, version):
    command = [ROOT / "deploy" / f"install-{name}.sh", version]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and f"install-{name}: " in run.stderr and not run.stdout


def test_the_image_has_the_libraries_of_the_program():
    lines = (ROOT / "deploy" / "dependencies.txt").read_text().splitlines()
    run = lines[lines.index("[run]") : lines.index("[mpijob]")]
    dynamic = subprocess.run(["objdump", "-p", BINARY], capture_output=True, text=True, check=True)
    for library in re.findall(r"NEEDED +(\S+)", dynamic.stdout):
        found = subprocess.run(["dpkg", "-S", f"*/{library}"], capture_output=True, text=True)
        owners = set(re.findall(r"^([^:,\s]+)(?::\w+)?: ", found.stdout, re.MULTILINE))
        # The last two are in every Debian.
        assert owners & {*run, "libc6", "libgcc-s1"}, f"{library}: {owners}"


def test_nobody_is_root(instructions):
    stages = []
    for each in instructions:
        if each.cmd.lower() == "from":
            stages.append([])
        elif stages and each.cmd.lower() == "user":
            stages[-1].append(each.value[0])
    for users in stages[1:]:
        assert not users or int(users[-1].split(":")[0]) > 0


def test_health_checks_ask_what_is_answered(instructions, compose):
    checks = [" ".join(value) for value in values_of(instructions, "healthcheck")]
    checks += [" ".join(each["healthcheck"]["test"]) for each in ours(compose).values()]
    paths = [re.search(r"http://127\.0\.0\.1:8000(\S+)", check) for check in checks]
    assert {match.group(1) for match in paths if match} == {"/health/live", "/health/ready"}
    for match in filter(None, paths):
        assert f'path == "{match.group(1)}"' in STATUS_ROUTES


def ours(compose):
    return {name: each for name, each in compose["services"].items() if "pregate" in each["image"]}


def test_compose_is_a_cluster(compose):
    services = ours(compose)
    kinds = {name: each["command"][0] for name, each in services.items()}
    assert sorted(kinds.values()) == ["coordinator", "worker", "worker"]
    coordinator = " ".join(services["coordinator"]["command"])
    least = int(re.search(r"--min-workers=(\d+)", coordinator).group(1))
    assert list(kinds.values()).count("worker") >= least
    for name, service in services.items():
        # A process is named by its host, and found by the service's name.
        assert service["hostname"] == name
        command, *words = service["command"]
        known = manifests.flags_of(command)
        for word in words:
            assert word.removeprefix("--").split("=")[0] in known, word
        for variable in service["environment"]:
            key = variable.removeprefix("PREGATE_").lower().replace("_", "-")
            assert key in known.keys() | manifests.flags_of("admin").keys(), variable
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        drain = float(known["drain-timeout"].removesuffix("s"))
        assert float(service["stop_grace_period"].removesuffix("s")) > drain
        for secret in service["secrets"]:
            assert secret in compose["secrets"]
    assert services["worker-1"]["secrets"] == ["cluster.secret"]


def test_compose_with_a_gpu_changes_a_worker_only(instructions, compose, gpu_services):
    arguments = [value[0].split("=")[0] for value in values_of(instructions, "arg")]
    for name, service in gpu_services.items():
        assert ours(compose)[name]["command"][0] == "worker"
        assert service.keys() == {"image", "build", "environment", "deploy"}
        # An image of its own: both are built.
        assert service["image"] not in [each["image"] for each in compose["services"].values()]
        build = compose["services"]["coordinator"]["build"]
        assert {key: value for key, value in service["build"].items() if key != "args"} == build
        assert service["build"]["args"].keys() == {"CUDA"} <= set(arguments)
        assert service["environment"] == {"PREGATE_DEVICE": "cuda"}
        assert "device" in manifests.flags_of("worker")
        devices = service["deploy"]["resources"]["reservations"]["devices"]
        assert [each["capabilities"] for each in devices] == [["gpu"]]


def test_compose_is_open_to_this_machine_only(compose):
    for service in compose["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


def test_compose_needs_the_secrets_that_are_made(compose, tmp_path):
    command = [ROOT / "deploy" / "make-secrets.sh", tmp_path / "secrets"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    files = {each["file"] for each in compose["secrets"].values()}
    assert files == {f"secrets/{path.name}" for path in (tmp_path / "secrets").iterdir()}
    assert "PREGATE_USER:?" in ours(compose)["coordinator"]["user"]


def test_what_compose_mounts_exists(compose):
    for name in ("prometheus", "grafana"):
        for volume in compose["services"][name]["volumes"]:
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists(), source


def test_prometheus_scrapes_all_of_them(compose, tmp_path):
    text = (DOCKER / "prometheus.yml").read_text()
    jobs = yaml.safe_load(text)["scrape_configs"]
    groups = [each for job in jobs for each in job["static_configs"]]
    targets = {target for each in groups for target in each["targets"]}
    assert targets == {f"{name}:8000" for name in ours(compose)}
    if not shutil.which("promtool"):
        pytest.skip("no promtool")
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/monitoring/", f"{ROOT}/monitoring/"))
    run = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
