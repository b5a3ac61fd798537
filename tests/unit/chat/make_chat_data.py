"""Renders templates, conversations and expressions with jinja2, set up by transformers itself.

Writes data/conversations.json and data/expected.json, which chat_template_test.cc replays:
    python tests/unit/chat/make_chat_data.py
"""

import json
import pathlib

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

FOLDER = pathlib.Path(__file__).parent
DATA = FOLDER / "data"

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "The weather at a place, now. Überall & <anywhere>.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {
                    "type": "string",
                    "description": "City and country, e.g. Oslo, Norway",
                },
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": ["integer", "null"], "default": 1.0},
                "where": {
                    "type": "object",
                    "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
                    "required": ["lat"],
                },
                "tags": {"type": "array", "items": {"type": "string"}},
                "extra": {"type": "object", "additionalProperties": {"type": "boolean"}},
            },
            "required": ["location", "where"],
        },
        "return": {"type": "string"},
    },
}
PLAIN_TOOL = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "What time is it?",
        "parameters": {"type": "object", "properties": {}},
    },
}


def call(name, arguments, identifier="abcdef123"):
    return {
        "id": identifier,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def message(role, content, **more):
    return {"role": role, "content": content, **more}


HELLO = message("user", "Hello, how are you?")
FINE = message("assistant", "Fine.  And you?\n")
MORE = message("user", "  What is 2 + 2? <b>&\"quotes\"</b> ")
SYSTEM = message("system", " You are a pirate.\nAnswer in verse. ")
ASK = message("user", "Weather in Oslo and Lima?")
CALLS = [
    call("get_current_weather", {"location": "Oslo", "where": {"lat": 59.9, "lon": 10.75}}),
    call(
        "get_current_weather",
        {"location": "Lima", "days": None, "tags": ["Perú", "😀"]},
        "123456789",
    ),
]

CONVERSATIONS = {
    "one_turn": dict(messages=[HELLO]),
    "one_turn_without_prompt": dict(messages=[HELLO], add_generation_prompt=False),
    "with_system": dict(messages=[SYSTEM, HELLO]),
    "many_turns": dict(messages=[SYSTEM, HELLO, FINE, MORE, FINE, HELLO]),
    "ends_with_assistant": dict(messages=[HELLO, FINE], add_generation_prompt=False),
    "empty_content": dict(
        messages=[message("user", ""), message("assistant", ""), message("user", " ")]
    ),
    "none_content": dict(messages=[HELLO, message("assistant", None), HELLO]),
    "unicode": dict(
        messages=[
            message("system", "Tu es un élève. 你好"),
            message("user", "مرحبا 👩‍👩‍👧 e\u0301 \u200b\u00a0ß"),
            message("assistant", "Здравствуй\u2028x"),
            message("user", "日本語\ttab \\ back {{ not a template }} {% nor %}"),
        ]
    ),
    "wrong_order": dict(messages=[HELLO, HELLO, FINE]),
    "assistant_first": dict(messages=[FINE, HELLO]),
    "unknown_role": dict(messages=[message("critic", "Boo"), HELLO]),
    "two_systems": dict(messages=[SYSTEM, message("system", "Be brief."), HELLO]),
    "no_messages": dict(messages=[]),
    "missing_content": dict(messages=[{"role": "user"}]),
    "parts": dict(
        messages=[
            message(
                "user",
                [
                    {"type": "image"},
                    {"type": "text", "text": " What is this? "},
                    {"type": "text", "text": "Tell."},
                ],
            ),
            FINE,
            HELLO,
        ]
    ),
    "number_content": dict(messages=[message("user", 42)]),
    "tools": dict(messages=[HELLO], tools=[WEATHER_TOOL, PLAIN_TOOL]),
    "tools_and_system": dict(messages=[SYSTEM, ASK], tools=[WEATHER_TOOL]),
    "one_tool_call": dict(
        messages=[
            ASK,
            message("assistant", "", tool_calls=CALLS[:1]),
            message("tool", '{"temperature": 4.5}', tool_call_id="abcdef123"),
            message("assistant", "4.5 degrees."),
            HELLO,
        ],
        tools=[WEATHER_TOOL],
    ),
    "two_tool_calls": dict(
        messages=[
            SYSTEM,
            ASK,
            message("assistant", "Let me look.", tool_calls=CALLS),
            message("tool", {"content": "cold", "degrees": [4.5, -1]}, tool_call_id="abcdef123"),
            message("tool", "warm", tool_call_id="123456789"),
        ],
        tools=[WEATHER_TOOL, PLAIN_TOOL],
    ),
    "tool_call_with_text_arguments": dict(
        messages=[ASK, message("assistant", None, tool_calls=[call("now", "{\"a\": 1}", "x")])],
        tools=[PLAIN_TOOL],
        add_generation_prompt=False,
    ),
    "thinking": dict(
        messages=[
            HELLO,
            message("assistant", "<think>\nHm, hello?\n</think>\n\nHello!"),
            MORE,
            message("assistant", "4", reasoning_content="\n2 + 2 = 4\n", tool_calls=CALLS[:1]),
            message("tool", "ok"),
        ]
    ),
    "thinking_off": dict(messages=[HELLO], variables={"enable_thinking": False}),
    "variables": dict(
        messages=[HELLO],
        variables={
            "date_string": "1 Jan 2030",
            "documents": [{"title": "T", "text": "x"}],
            "controls": {"length": "long"},
        },
        tools=[PLAIN_TOOL],
    ),
}

SNIPPET_VARIABLES = {
    "n": 5,
    "s": "Hello world",
    "u": "héllo😀 Wörld",
    "items": [1, 2, 3],
    "d": {"a": 1, "b": {"c": [1, 2, {"x": None}]}},
    "people": [
        {"name": "Ann", "age": 41, "city": "Oslo", "address": {"street": "High"}},
        {"name": "bob", "age": 29, "city": "lima", "address": {"street": "Low"}, "zip": "99"},
        {"name": "Cid", "age": 35, "city": "Oslo", "address": {"street": "Low"}},
    ],
}

SYNTAX_ERRORS = [
    "{{",
    "{{ }}",
    "{% %}",
    "one\n{{ 1 + }}",
    "one\ntwo {% if %}{% endif %}",
    "{% if x %}\n\nnever closed",
    "{% for x in y %}\n{% endif %}",
    "{% endfor %}",
    "\n{% unknown_tag %}",
    "{% for in x %}{% endfor %}",
    "{% for x %}{% endfor %}",
    "{% for x, in %}{% endfor %}",
    "{% set 1 = 2 %}",
    "{% set x %}",
    "{% set true = 2 %}",
    "\n\n{{ 'no end }}",
    "{{ (1 }}",
    "{{ 1) }}",
    "{{ [1, 2 }}",
    "{{ {'a' 1} }}",
    "{{ {'a': } }}",
    "{{ a..b }}",
    "{{ a.'b' }}",
    "{{ a | }}",
    "{{ a | 5 }}",
    "{{ a is }}",
    "{{ a is none is defined }}",
    "{{ f(a b) }}",
    "{{ f(a=1, 2) }}",
    "{{ f(**a, *b) }}",
    "{{ 1 ? 2 }}",
    "{{ a ! b }}",
    "{{ ` }}",
    "{{ a b }}",
    "{# never closed",
    "text\n{# never\nclosed",
    "{% raw %}\n{{ x }}",
    "{% macro %}{% endmacro %}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m(1) %}{% endmacro %}",
    "{% macro m( %}{% endmacro %}",
    "{% call x %}{% endcall %}",
    "{% call m() %}",
    "{% filter %}{% endfilter %}",
    "{% filter upper %}",
    "{% with a %}{% endwith %}",
    "{% generation %}no end",
    "\n{% break %}",
    "{% if x %}{% continue %}{% endif %}",
    "{% for x in y %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% if x %}{% else %}{% elif y %}{% endif %}",
    "{% for x in y %}{% else %}{% else %}{% endfor %}",
    "{% if x }}{% endif %}",
    "{{ x %}",
    "{% 5 %}",
    "{{ '\\xg' }}",
    "{{ '\\u12' }}",
    "{{ not }}",
    "{{ 1 if }}",
    "{{ a[ }}",
    "{{ a[1:2:3:4] }}",
    "{{ a[1 2] }}",
    "{% set x = %}",
    "{% set x.y.z = 1 %}",
    "{{ 5x }}",
    "{{ * }}",
    "{{ a = 1 }}",
]


def outcome(render):
    """The text, or what kind of error came and with which message."""
    try:
        return {"text": render()}
    except jinja2.UndefinedError as error:
        return {"error": str(error), "kind": "undefined"}
    except jinja2.sandbox.SecurityError as error:
        return {"error": str(error), "kind": "security"}
    except jinja2.TemplateSyntaxError as error:
        return {"error": str(error), "kind": "syntax", "line": error.lineno}
    except jinja2.TemplateError as error:
        is_raised = type(error) is jinja2.TemplateError
        return {"error": str(error), "kind": "raised" if is_raised else "other"}
    except Exception as error:  # whatever Python raises within an expression
        return {"error": f"{type(error).__name__}: {error}", "kind": "other"}


def render_conversation(source, conversation):
    variables = {
        **SPECIAL_TOKENS,
        "documents": None,
        **conversation["variables"],
        "messages": conversation["messages"],
        "tools": conversation["tools"] or None,
        "add_generation_prompt": conversation["add_generation_prompt"],
    }
    return outcome(lambda: _compile_jinja_template(source).render(**variables))


def renderings(conversations):
    for path in sorted((DATA / "templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for conversation in conversations:
            result = render_conversation(source, conversation)
            yield {"template": path.name, "conversation": conversation["name"], **result}


def snippets():
    for line in (FOLDER / "snippets.txt").read_text(encoding="utf-8").splitlines():
        # Each member of a top-level tuple is printed by itself, so that str and repr are both seen.
        source = "{{ " + line + " }}|{% for value in [" + line + "] %}{{ value }}|{% endfor %}"
        result = outcome(lambda: _compile_jinja_template(source).render(**SNIPPET_VARIABLES))
        if " at 0x" not in result.get("text", ""):
            yield {"source": source, **result}


def syntax_errors():
    for source in SYNTAX_ERRORS:
        try:
            _compile_jinja_template(source)
        except jinja2.TemplateSyntaxError as error:
            yield {"source": source, "line": error.lineno, "error": str(error)}
        except SyntaxError as error:  # from Python, with the line of the code that jinja2 makes
            yield {"source": source, "error": error.msg}
        else:
            raise AssertionError(f"no error in {source!r}")


def write(name, data):
    text = json.dumps(data, ensure_ascii=False, indent=1)
    (DATA / name).write_text(text + "\n", encoding="utf-8")


def main():
    defaults = {"tools": [], "add_generation_prompt": True, "variables": {}}
    conversations = [{"name": name, **defaults, **rest} for name, rest in CONVERSATIONS.items()]
    write("conversations.json", conversations)
    write(
        "expected.json",
        {
            "made_with": {"jinja2": jinja2.__version__, "transformers": transformers.__version__},
            "special_tokens": SPECIAL_TOKENS,
            "snippet_variables": SNIPPET_VARIABLES,
            "renderings": list(renderings(conversations)),
            "snippets": list(snippets()),
            "syntax_errors": list(syntax_errors()),
        },
    )


if __name__ == "__main__":
    main()
