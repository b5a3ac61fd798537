"""The rules of the house that a machine can check. Each rule takes a Tree and yields Findings."""

import ast
import pathlib
import re
import shutil
import subprocess
from typing import NamedTuple

import cpp_scan

# A folder may include itself and the folders of the lines above its own, never one beside it.
LAYERS = (
    ("base",),
    ("protocol", "monitoring"),
    ("transport", "compute"),
    ("model",),
    ("router",),
    ("engine",),
    ("worker", "coordinator"),
    ("cli",),
)
# Exceptions to the order above, with the rule of docs/ARCHITECTURE.md they stand for.
FORBIDDEN = {("transport", "protocol"): "transport never sees a message type"}
# Members of a family (their sub-folders) never include one another; they share the folder's files.
FAMILIES = ("transport", "router", "model/families")
# Folders that include nothing outside themselves but other code for the same device.
SEALED = ("compute/cuda/device",)

MAX_COLUMNS = 100
MAX_SOURCE_LINES = 600
MAX_HEADER_LINES = 300
MAX_INTERFACE_LINES = dict.fromkeys(
    (
        "base/clock.h",
        "transport/transport.h",
        "model/checkpoint/checkpoint.h",
        "model/chat/chat_template.h",
        "model/families/family.h",
        "model/tokenizer/tokenizer.h",
        "router/lookahead/lookahead.h",
        "router/router.h",
        "engine/expert_client.h",
        "coordinator/scheduling/generation.h",
    ),
    120,
)
MAX_INTERFACE_LINES["compute/backend.h"] = 200  # Each operation of a model has a method.
MAX_BUILD_FILE_LINES = 60
MAX_ROOT_BUILD_FILE_LINES = 150
MAX_FUNCTION_LINES = 70
MAX_KERNEL_LINES = 150

HEADERS = (".h", ".cuh")
SOURCES = (".cc", ".cu")
PAGES = (".html", ".css", ".js")
OTHER_TEXTS = (".py", ".sh", ".cmake", ".in", ".txt", ".md", ".toml", ".yml", ".yaml")
TEXTS = HEADERS + SOURCES + PAGES + OTHER_TEXTS
LONG_LINES_ALLOWED = (".md", ".yml", ".yaml", ".txt")  # Tables, expressions, data; not build files.
DATA_FOLDERS = ("corpus", "data", "testdata", "models")

# Put together so that this file does not find itself.
MARKERS = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w./$}-])/(?:work|root|home|Users)/\w")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)
PLATFORM_IF = re.compile(
    r"^[ \t]*#[ \t]*(?:if|ifdef|ifndef|elif)\b[^\n]*\b(\w*(?:CUDA|NCCL|UCX|MPI|HIP|ROCM)\w*)",
    re.MULTILINE,
)
BY_REFERENCE = re.compile(r"\bstd::(?:min|max|clamp)\b")


class Finding(NamedTuple):
    path: str
    line: int
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.message}"


class Tree:
    """The files of a checkout that people write: what git tracks or would track."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.paths = sorted(path for path in self._list() if (self.root / path).is_file())
        self._texts = {}

    def _list(self):
        if (self.root / ".git").exists() and shutil.which("git"):
            command = ["git", "-C", str(self.root), "ls-files", "-z", "-co", "--exclude-standard"]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode == 0:
                return set(filter(None, run.stdout.split("\0")))
        files = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        return {str(path) for path in files if path.parts[0] not in ("build", ".git")}

    def text(self, path):
        if path not in self._texts:
            self._texts[path] = (self.root / path).read_text(encoding="utf-8", errors="replace")
        return self._texts[path]

    def ending(self, *suffixes):
        return [path for path in self.paths if path.endswith(suffixes)]

    def written_by_people(self):
        for path in self.paths:
            is_text = path.endswith(TEXTS) or "." not in pathlib.PurePath(path).name
            if is_text and not any(part in DATA_FOLDERS for part in pathlib.PurePath(path).parts):
                yield path

    def folders(self):
        """Folders with C++ in them, as strings."""
        return {str(pathlib.PurePath(path).parent) for path in self.ending(*HEADERS, *SOURCES)}


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def top_folder(path):
    return pathlib.PurePath(path).parts[0]


def layer_of(folder):
    for level, folders in enumerate(LAYERS):
        if folder in folders:
            return level
    return None


def _member(path, family):
    """The member of `family` that `path` lies in, or None: transport/mpi/x.h -> mpi."""
    parts = pathlib.PurePath(path).parts
    depth = len(pathlib.PurePath(family).parts)
    if path.startswith(family + "/") and len(parts) > depth + 1:
        return parts[depth]
    return None


def _reason_against(path, included):
    """Why `path` may not include `included`, or None."""
    source, target = top_folder(path), top_folder(included)
    source_layer, target_layer = layer_of(source), layer_of(target)
    for sealed in SEALED:
        if path.startswith(sealed + "/") and not included.startswith(sealed + "/"):
            return f"{sealed} includes nothing outside itself"
    if source_layer is None:
        return None
    if target in ("tests", "bench"):
        return f"{source} may not include {target}: the program does not depend on its tests"
    if target_layer is None or source == target:
        for family in FAMILIES:
            ours, theirs = _member(path, family), _member(included, family)
            if ours and theirs and ours != theirs:
                return f"members of {family} never include one another ({ours} -> {theirs})"
        return None
    if (source, target) in FORBIDDEN:
        return f"{source} may not include {target}: {FORBIDDEN[source, target]}"
    if target_layer < source_layer:
        return None
    if target_layer == source_layer:
        return f"{source} and {target} never include each other"
    return f"{source} may not include {target}, which lies above it"


def include_direction(tree):
    for path in tree.ending(*HEADERS, *SOURCES):
        for match in INCLUDE.finditer(tree.text(path)):
            if reason := _reason_against(path, match.group(1)):
                yield Finding(path, line_of(tree.text(path), match.start()), reason)


def _line_limit(path):
    if path == "CMakeLists.txt":
        return MAX_ROOT_BUILD_FILE_LINES, "the root build file"
    if path.endswith("CMakeLists.txt"):
        return MAX_BUILD_FILE_LINES, "a folder's build file"
    if path.endswith(HEADERS):
        if path in MAX_INTERFACE_LINES:
            return MAX_INTERFACE_LINES[path], "this interface"
        return MAX_HEADER_LINES, "a header"
    return MAX_SOURCE_LINES, "a source file"


def file_size(tree):
    for path in tree.ending(*HEADERS, *SOURCES, *PAGES, ".py", ".sh", "CMakeLists.txt"):
        limit, kind = _line_limit(path)
        lines = tree.text(path).count("\n")
        if lines > limit:
            yield Finding(path, limit + 1, f"{lines} lines; {kind} has at most {limit}")


def function_size(tree):
    for path in tree.ending(*HEADERS, *SOURCES):
        limit = MAX_KERNEL_LINES if path.startswith("compute/") else MAX_FUNCTION_LINES
        for function in cpp_scan.functions(tree.text(path)):
            if function.num_lines > limit:
                message = f"{function.name} has {function.num_lines} lines, at most {limit} allowed"
                yield Finding(path, function.line, message)


def python_function_size(tree):
    for path in tree.ending(".py"):
        try:
            module = ast.parse(tree.text(path))
        except SyntaxError as error:
            yield Finding(path, error.lineno or 1, f"not valid Python: {error.msg}")
            continue
        for node in ast.walk(module):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    message = f"{node.name} has {lines} lines, at most {MAX_FUNCTION_LINES} allowed"
                    yield Finding(path, node.lineno, message)


def line_form(tree):
    for path in tree.written_by_people():
        text = tree.text(path)
        any_length = path.endswith(LONG_LINES_ALLOWED) and not path.endswith("CMakeLists.txt")
        for number, line in enumerate(text.split("\n"), start=1):
            if len(line) > MAX_COLUMNS and not any_length:
                message = f"{len(line)} columns, at most {MAX_COLUMNS} allowed"
                yield Finding(path, number, message)
            if "\t" in line:
                yield Finding(path, number, "tab; indent with spaces")
            if line != line.rstrip():
                yield Finding(path, number, "blank at the end of the line")
        if text and not text.endswith("\n"):
            yield Finding(path, text.count("\n") + 1, "no line end at the end of the file")


def leftovers(tree):
    for path in tree.written_by_people():
        text = tree.text(path)
        for match in MARKERS.finditer(text):
            message = f"leftover marker {match.group()}: finish it or file it"
            yield Finding(path, line_of(text, match.start()), message)
        for match in MACHINE_PATH.finditer(text):
            yield Finding(path, line_of(text, match.start()), "path of one machine")


def pragma_once(tree):
    for path in tree.ending(*HEADERS):
        directive = re.search(r"^[ \t]*#.*$", tree.text(path), re.MULTILINE)
        if not directive or directive.group().strip() != "#pragma once":
            line = line_of(tree.text(path), directive.start()) if directive else 1
            yield Finding(path, line, "a header's first directive is #pragma once")


def platform_conditionals(tree):
    for path in tree.ending(*HEADERS, *SOURCES):
        is_stub = pathlib.PurePath(path).name.startswith("no_")
        if is_stub or path.startswith("compute/cuda/"):
            continue
        for match in PLATFORM_IF.finditer(tree.text(path)):
            message = f"#if on {match.group(1)}: choose a no_<x>.cc stub in the build instead"
            yield Finding(path, line_of(tree.text(path), match.start()), message)


def kernel_references(tree):
    """Compilers say nothing, and emulation has the address: on a device the kernel traps."""
    for path in tree.ending(*HEADERS, *SOURCES):
        if not path.startswith("compute/cuda/kernels/"):
            continue
        for match in BY_REFERENCE.finditer(tree.text(path)):
            message = f"{match.group()} takes references, and constants have no address on a device"
            yield Finding(path, line_of(tree.text(path), match.start()), message)


def _build_text(tree, folder):
    """The build files from `folder` up to the root, without comments."""
    folders = [pathlib.PurePath(folder), *pathlib.PurePath(folder).parents]
    files = [str(each / "CMakeLists.txt") for each in folders]
    texts = [re.sub(r"#.*", "", tree.text(path)) for path in files if path in tree.paths]
    return "\n".join(texts)


def _is_named(name, build_text):
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", build_text) is not None


def files_are_built(tree):
    for path in tree.ending(*SOURCES):
        pure = pathlib.PurePath(path)
        if path.startswith("tests/fuzz/"):
            continue  # tests/fuzz/CMakeLists.txt takes every *_fuzz.cc and refuses unknown ones.
        if not _is_named(pure.name, _build_text(tree, pure.parent)):
            message = "not listed in a CMakeLists.txt, so nothing compiles it"
            yield Finding(path, 1, message)


def folders_are_built(tree):
    for folder in sorted(tree.folders()):
        pure = pathlib.PurePath(folder)
        build_file = str(pure / "CMakeLists.txt")
        if folder == "." or top_folder(folder) == "tests":
            continue  # tests/CMakeLists.txt takes every folder that has a build file.
        sources = {str(pathlib.PurePath(path).parent) for path in tree.ending(*SOURCES)}
        if len(pure.parts) == 1 and folder in sources and build_file not in tree.paths:
            yield Finding(folder, 1, "has sources but no CMakeLists.txt")
        if build_file in tree.paths and not _is_named(pure.name, _build_text(tree, pure.parent)):
            yield Finding(build_file, 1, f"no build file above adds the folder {pure.name}")
        if layer_of(top_folder(folder)) is None and top_folder(folder) != "bench":
            yield Finding(folder, 1, "folder of no layer: see docs/ARCHITECTURE.md, the house")


def nothing_empty(tree):
    for path in tree.paths:
        in_data = any(part in DATA_FOLDERS for part in pathlib.PurePath(path).parts)
        if (tree.root / path).stat().st_size == 0 and not in_data:
            yield Finding(path, 1, "empty file")
    for folder in tree.root.rglob("*"):
        relative = folder.relative_to(tree.root)
        if relative.parts[0] in (".git", "build") or not folder.is_dir():
            continue
        if not any(folder.iterdir()):
            yield Finding(str(relative), 1, "empty folder")


RULES = (
    include_direction,
    file_size,
    function_size,
    python_function_size,
    line_form,
    leftovers,
    pragma_once,
    platform_conditionals,
    kernel_references,
    files_are_built,
    folders_are_built,
    nothing_empty,
)
