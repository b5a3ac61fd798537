#!/usr/bin/env python3
"""Checks the shape of the tree: layers, sizes, leftovers, formatting. See rules.py for the rules.

Prints `file:line: message` for each finding and exits with 1 if there is one."""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

import rules

CLANG_FORMAT_MAJOR = 14  # Debian 12's; other versions break lines differently.


def find_clang_format():
    """The name of a clang-format of the right version, or None and the reason."""
    for name in (f"clang-format-{CLANG_FORMAT_MAJOR}", "clang-format"):
        if shutil.which(name):
            version = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
            if re.search(rf"version {CLANG_FORMAT_MAJOR}\.", version):
                return name, None
    return None, f"clang-format {CLANG_FORMAT_MAJOR} is not installed"


def formatting(tree, program):
    files = tree.ending(".cc", ".h")
    if not files:
        return
    command = [program, "--dry-run", "--style=file", *files]
    run = subprocess.run(command, cwd=tree.root, capture_output=True, text=True)
    seen = set()
    for match in re.finditer(r"^(.+?):(\d+):\d+: (?:warning|error): ", run.stderr, re.MULTILINE):
        if match.group(1) not in seen:  # The first place in a file is enough to act on.
            seen.add(match.group(1))
            message = f"not as {program} would have it; run: clang-format -i {match.group(1)}"
            yield rules.Finding(match.group(1), int(match.group(2)), message)


def check(root):
    tree = rules.Tree(root)
    findings = [finding for rule in rules.RULES for finding in rule(tree)]
    program, reason = find_clang_format()
    if program:
        findings += formatting(tree, program)
    else:
        print(f"tidy: formatting not checked: {reason}")
    return tree, sorted(findings)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    default = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--root", type=pathlib.Path, default=default, help="top of the tree")
    tree, findings = check(parser.parse_args().root)
    for finding in findings:
        print(finding)
    print(f"tidy: {len(tree.paths)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
