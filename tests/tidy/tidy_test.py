#!/usr/bin/env python3
"""Each rule must find its own bad sample, at the right line, and nothing in a good tree."""

import pathlib
import tempfile
import textwrap
import unittest

import cpp_scan
import rules
import tidy

GOOD_TREE = {
    "CMakeLists.txt": "foreach(folder base model transport)\nendforeach()\n",
    "base/CMakeLists.txt": "pregate_library(base SOURCES text.cc)\n",
    "base/text.h": "// Words.\n#pragma once\n\nint words();\n",
    "base/text.cc": '#include "base/text.h"\n\nint words() { return 1; }\n',
    "tests/unit/base/CMakeLists.txt": "pregate_test(base_test SOURCES text_test.cc)\n",
    "tests/unit/base/text_test.cc": '#include "base/text.h"\n\nTEST(Text, IsThere) { words(); }\n',
}
MARKER = "TO" + "DO"


def function_of(num_lines, signature="void f() {"):
    body = "".join("  g();\n" for _ in range(num_lines - 2))
    return f"{signature}\n{body}}}\n"


class RuleTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def findings(self, rule, files):
        """What `rule` finds in the good tree with `files` put in, as (path, line)."""
        for path, text in {**GOOD_TREE, **files}.items():
            target = pathlib.Path(self.folder.name) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return [(found.path, found.line) for found in rule(rules.Tree(self.folder.name))]

    def test_good_tree_has_no_findings(self):
        for rule in rules.RULES:
            self.assertEqual(self.findings(rule, {}), [], rule.__name__)

    def includes(self, path, included):
        return self.findings(rules.include_direction, {path: f'\n#include "{included}"\n'})

    def test_upward_include(self):
        self.assertEqual(self.includes("base/a.cc", "model/config.h"), [("base/a.cc", 2)])

    def test_downward_include(self):
        self.assertEqual(self.includes("model/a.cc", "base/text.h"), [])

    def test_neighbours_never_meet(self):
        pairs = (("worker", "coordinator"), ("transport", "compute"), ("monitoring", "protocol"))
        files = {f"{a}/a.cc": f'#include "{b}/b.h"\n' for a, b in pairs}
        files |= {f"{b}/b.cc": f'#include "{a}/a.h"\n' for a, b in pairs}
        found = self.findings(rules.include_direction, files)
        self.assertEqual(sorted(found), sorted((path, 1) for path in files))

    def test_transport_never_sees_a_message(self):
        path = "transport/mpi/a.cc"
        self.assertEqual(self.includes(path, "protocol/messages.h"), [(path, 2)])

    def test_members_of_a_family_never_meet(self):
        path = "transport/mpi/a.cc"
        self.assertEqual(self.includes(path, "transport/inproc/b.h"), [(path, 2)])
        self.assertEqual(self.includes(path, "transport/transport.h"), [])

    def test_device_code_is_sealed(self):
        path = "compute/cuda/device/a.cuh"
        self.assertEqual(self.includes(path, "base/result.h"), [(path, 2)])

    def test_program_never_includes_tests(self):
        self.assertEqual(self.includes("base/a.cc", "tests/support/b.h"), [("base/a.cc", 2)])

    def test_file_sizes(self):
        files = {"base/long.cc": "\n" * 601, "base/long.h": "\n" * 301, "base/fits.h": "\n" * 300}
        found = self.findings(rules.file_size, files)
        self.assertEqual(found, [("base/long.h", 301), ("base/long.cc", 601)][::-1])

    def test_interface_headers_are_short(self):
        path = "router/router.h"
        self.assertEqual(self.findings(rules.file_size, {path: "\n" * 121}), [(path, 121)])
        self.assertEqual(self.findings(rules.file_size, {path: "\n" * 120}), [])

    def test_function_size(self):
        files = {"base/a.cc": "int x;\n" + function_of(71), "base/b.cc": function_of(70)}
        self.assertEqual(self.findings(rules.function_size, files), [("base/a.cc", 2)])

    def test_kernels_may_be_longer(self):
        files = {"compute/a.cc": function_of(150), "compute/b.cc": function_of(151)}
        self.assertEqual(self.findings(rules.function_size, files), [("compute/b.cc", 1)])

    def test_python_function_size(self):
        long_function = "def f():\n" + "    pass\n" * 70
        self.assertEqual(self.findings(rules.python_function_size, {"tests/a.py": long_function}),
                         [("tests/a.py", 1)])

    def test_line_form(self):
        lines = "int a;\n" + "//" + "x" * 99 + "\n\tint b;\nint c; \nint d;"
        self.assertEqual(self.findings(rules.line_form, {"base/a.cc": lines}),
                         [("base/a.cc", 2), ("base/a.cc", 3), ("base/a.cc", 4), ("base/a.cc", 5)])

    def test_test_data_is_left_alone(self):
        self.assertEqual(self.findings(rules.line_form, {"tests/fuzz/corpus/x/a": "\t "}), [])

    def test_leftovers(self):
        path = "/ho" + "me/someone/model"
        text = f"int a;  // {MARKER}: more\nconst char* b = \"{path}\";\n"
        self.assertEqual(self.findings(rules.leftovers, {"base/a.cc": text}),
                         [("base/a.cc", 1), ("base/a.cc", 2)])

    def test_template_of_mktemp_is_no_leftover(self):
        text = "mktemp -d /tmp/pregate." + "X" * 6 + "\n"
        self.assertEqual(self.findings(rules.leftovers, {"deploy/a.sh": text}), [])

    def test_pragma_once(self):
        files = {"base/a.h": "// A.\n#include <b>\n#pragma once\n", "base/b.h": "int b;\n"}
        self.assertEqual(self.findings(rules.pragma_once, files),
                         [("base/a.h", 2), ("base/b.h", 1)])

    def test_platform_conditionals(self):
        text = "#ifdef __x86_64__\n#endif\n#if defined(PREGATE_HAS_MPI) && 1\n#endif\n"
        files = {"engine/a.cc": text, "transport/no_mpi.cc": text}
        self.assertEqual(self.findings(rules.platform_conditionals, files), [("engine/a.cc", 3)])

    def test_constants_by_reference_in_kernels(self):
        text = "int a = std::max(b, c);\nint d = max(b, c);\n"
        files = {"compute/cuda/kernels/a.cuh": "#pragma once\n" + text, "engine/a.cc": text}
        found = self.findings(rules.kernel_references, files)
        self.assertEqual(found, [("compute/cuda/kernels/a.cuh", 2)])

    def test_forgotten_source_and_forgotten_test(self):
        files = {"base/other.cc": "int x;\n", "tests/unit/base/other_test.cc": "int x;\n"}
        self.assertEqual(self.findings(rules.files_are_built, files),
                         [("base/other.cc", 1), ("tests/unit/base/other_test.cc", 1)])

    def test_name_in_a_comment_or_inside_another_name_does_not_count(self):
        files = {"base/xt.cc": "int x;\n", "base/CMakeLists.txt": "text.cc # xt.cc\n"}
        self.assertEqual(self.findings(rules.files_are_built, files), [("base/xt.cc", 1)])

    def test_forgotten_folders(self):
        files = {
            "model/CMakeLists.txt": "pregate_library(model SOURCES a.cc)\n",
            "model/a.cc": "int x;\n",
            "model/chat/CMakeLists.txt": "pregate_library(model_x SOURCES b.cc)\n",
            "model/chat/b.cc": "int x;\n",
            "router/c.cc": "int x;\n",
            "strange/d.h": "int x;\n",
        }
        self.assertEqual(self.findings(rules.folders_are_built, files),
                         [("model/chat/CMakeLists.txt", 1), ("router", 1), ("strange", 1)])

    def test_empty_things(self):
        (pathlib.Path(self.folder.name) / "base/hollow").mkdir(parents=True)
        self.assertEqual(self.findings(rules.nothing_empty, {"base/a.cc": ""}),
                         [("base/a.cc", 1), ("base/hollow", 1)])

    def test_formatting(self):
        program, reason = tidy.find_clang_format()
        if not program:
            self.skipTest(reason)
        style = {".clang-format": "BasedOnStyle: Google\n"}
        files = {"base/a.cc": "int a;\nint  b;\nint  c;\n", **style}
        found = self.findings(lambda tree: tidy.formatting(tree, program), files)
        self.assertEqual(found, [("base/a.cc", 2)])


class ScanTest(unittest.TestCase):
    def scan(self, source):
        source = textwrap.dedent(source)
        return [(found.name, found.line, found.num_lines) for found in cpp_scan.functions(source)]

    def test_braces_in_literals_and_comments(self):
        source = """\
            // }
            void f() {
              g("}", '}', R"x(})x", 1'000);  /* } */
            #define CLOSE }
            }
            """
        self.assertEqual(self.scan(source), [("f", 2, 4)])

    def test_functions_in_classes_and_namespaces(self):
        source = """\
            namespace a {
            template <typename T>
            class B : public C<T> {
             public:
              B() = default;
              int g() const {
                return 1;
              }
            };
            }
            """
        self.assertEqual(self.scan(source), [("g", 6, 3)])

    def test_member_initialisers_with_braces(self):
        source = """\
            A::A(int b) : b_{b},
                          c_(1), d_{2} {
              go();
            }
            void next() {}
            """
        self.assertEqual(self.scan(source), [("A::A", 1, 4), ("next", 5, 1)])

    def test_operators_and_template_functions(self):
        source = """\
            A& operator=(A&& other) {
              return *this;
            }
            template <class T>
            std::vector<T> list(T t)
              requires(sizeof(T) > 1)
            {
              return {t};
            }
            """
        self.assertEqual([found[1:] for found in self.scan(source)], [(1, 3), (4, 6)])

    def test_tables_and_enums_are_no_functions(self):
        source = """\
            enum class Kind : uint8_t { kA = 1 };
            const std::map<int, int> kTable = {
                {1, f(2)},
            };
            constexpr int kList[] = {1, 2};
            Point origin{0, 0};
            """
        self.assertEqual(self.scan(source), [])

    def test_lambda_counts_as_part_of_its_function(self):
        source = """\
            void f() {
              each([](int x) {
                use(x);
              });
            }
            """
        self.assertEqual(self.scan(source), [("f", 1, 5)])


if __name__ == "__main__":
    unittest.main()
