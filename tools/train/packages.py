"""Fetches the pinned Debian packages and unpacks them into a folder; installs nothing."""

import pathlib
import subprocess

LIST = pathlib.Path(__file__).parent / "packages.txt"
# Of the kernel's sources only what a domain reads: the rest takes minutes to unpack.
KERNEL_PARTS = ("Documentation", "block", "crypto", "fs", "kernel", "lib", "mm", "net", "security")


def pinned():
    """[(package, version)] of packages.txt."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split()) for line in lines if line and not line.startswith("#")]


def _download(package, version, folder):
    """The .deb of one package, from the archive unless it is there already."""
    spelled = version.replace(":", "%3a")
    found = sorted(folder.glob(f"{package}_{spelled}_*.deb"))
    if not found:
        command = ["apt-get", "download", "-q", f"{package}={version}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        found = sorted(folder.glob(f"{package}_{spelled}_*.deb"))
    return found[0]


def _unpack_kernel(folder):
    """Some folders of the sources that the package holds as one archive."""
    sources = folder / "usr/src"
    archive = next(sources.glob("linux-source-*.tar.xz"))
    parts = [f"{archive.name.removesuffix('.tar.xz')}/{part}" for part in KERNEL_PARTS]
    subprocess.run(["tar", "xf", archive.name, *parts], cwd=sources, check=True)


def fetch(work):
    """Unpacks every package under work/packages/<name>; returns that folder."""
    debs, unpacked = work / "debs", work / "packages"
    debs.mkdir(parents=True, exist_ok=True)
    unpacked.mkdir(exist_ok=True)
    for package, version in pinned():
        folder, marker = unpacked / package, unpacked / f".{package}={version}"
        if marker.exists():
            continue
        print(f"unpacking {package} {version}", flush=True)
        deb = _download(package, version, debs)
        subprocess.run(["dpkg-deb", "-x", deb.absolute(), folder.absolute()], check=True)
        if package.startswith("linux-source"):
            _unpack_kernel(folder)
        marker.touch()
    return unpacked
