"""Finds the functions of a C++ file without a compiler: comments and literals are blanked out, then
braces are matched. Good for sizes, not for meaning."""

import re
from typing import NamedTuple

# In order: what may hide braces, quotes or directives inside it.
_OPAQUE = re.compile(
    r"""//[^\n]*(?:\\\n[^\n]*)*"""
    r"""|/\*.*?\*/"""
    r"""|R"(?P<tag>[^()\s\\"]*)\(.*?\)(?P=tag)\""""
    r"""|"(?:\\.|[^"\\\n])*\""""
    r"""|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'"""
    r"""|^[ \t]*\#(?:\\\n|[^\n])*""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_TYPE_OR_NAMESPACE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")
_NAME = re.compile(r"([\w:~]+|operator\s*\S+?)\s*\(")


class Function(NamedTuple):
    name: str
    line: int  # Of the first line of its signature, counted from 1.
    num_lines: int  # Signature, body and closing brace.


def blank(text):
    """The same text, every opaque character but line ends replaced by a space."""
    return _OPAQUE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def _without_brackets(head):
    """`head` without template arguments and what stands in round or square brackets."""
    previous = None
    while previous != head:
        previous = head
        head = re.sub(r"\([^()]*\)|\[[^\[\]]*\]|<[^<>]*>", " ", head)
    return head


def _is_function(head):
    """Whether the block that follows `head`, at namespace or class scope, is a function's."""
    if "(" not in head or head.rstrip().endswith("="):
        return False
    return _TYPE_OR_NAMESPACE.search(_without_brackets(head)) is None


def _closing_brace(text, start):
    """Index of the brace that closes the one at `start`, or the end of the text."""
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.start()
    return len(text) - 1


def _end_of_function(text, start):
    """As _closing_brace, but goes on past braces of a member initialiser list (`: a_{1}, b_{2} {`)
    and of a function try block."""
    end = _closing_brace(text, start)
    following = re.compile(r"\s*(?:,[^;{}]*|catch\s*\([^)]*\)\s*)?\{").match(text, end + 1)
    while following:
        end = _closing_brace(text, following.end() - 1)
        following = re.compile(r"\s*(?:,[^;{}]*|catch\s*\([^)]*\)\s*)?\{").match(text, end + 1)
    return end


def functions(source):
    """Functions of a file in order; lambdas and local classes count as part of theirs."""
    text = blank(source)
    found = []
    head_start = 0
    position = 0
    marks = re.compile(r"[{};]|\b(?:public|private|protected)\s*:")
    while mark := marks.search(text, position):
        position = mark.end()
        head = text[head_start : mark.start()]
        if mark.group() == "{":
            if _is_function(head):
                end = _end_of_function(text, mark.start())
                signature = head_start + len(head) - len(head.lstrip())
                name = _NAME.search(head)
                first_line = text.count("\n", 0, signature) + 1
                last_line = text.count("\n", 0, end) + 1
                label = name.group(1) if name else "function"
                found.append(Function(label, first_line, last_line - first_line + 1))
                position = end + 1
            elif not _TYPE_OR_NAMESPACE.search(_without_brackets(head)):
                position = _closing_brace(text, mark.start()) + 1  # An initialiser.
        head_start = position
    return found
