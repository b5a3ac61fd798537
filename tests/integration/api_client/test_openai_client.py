"""The `openai` package against a running server: every endpoint and option.

    PREGATE_BASE_URL=http://127.0.0.1:8000 pytest test_openai_client.py

PREGATE_MODEL names the model (default: the first the server lists), PREGATE_API_KEY the key if the
server wants one. Nothing here depends on what the model says, only on greedy answers being the same
each time, so a checkpoint of random weights will do.
"""

import concurrent.futures
import json
import os
import time
import urllib.error
import urllib.request

import openai
import pytest

BASE_URL = os.environ["PREGATE_BASE_URL"].rstrip("/").removesuffix("/v1")
API_KEY = os.environ.get("PREGATE_API_KEY", "none")
PROMPT = "The quick brown fox jumps over the lazy dog."
MESSAGES = [{"role": "user", "content": "Name three colours."}]


def http(path, body=None, key=API_KEY):
    """(status, headers, body) of a plain request, as text; POST if there is a body."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    try:
        request = urllib.request.Request(BASE_URL + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def post(path, **body):
    status, _, text = http(path, body)
    assert status == 200, text
    return json.loads(text)


@pytest.fixture(scope="session")
def client():
    return openai.OpenAI(base_url=BASE_URL + "/v1", api_key=API_KEY, max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def card(client):
    wanted = os.environ.get("PREGATE_MODEL")
    return next(card for card in client.models.list() if wanted in (None, card.id))


@pytest.fixture(scope="session")
def complete(client, card):
    """A greedy completion of a fixed length, unless told otherwise."""

    def call(prompt=PROMPT, extra=None, **options):
        options = {"temperature": 0, "max_tokens": 12} | options
        extra = {"ignore_eos": True} | (extra or {})
        return client.completions.create(
            model=card.id, prompt=prompt, extra_body=extra, **options
        )

    return call


@pytest.fixture(scope="session")
def chat(client, card):
    def call(messages=None, extra=None, **options):
        options = {"temperature": 0} | options
        if "max_completion_tokens" not in options:
            options = {"max_tokens": 12} | options
        extra = {"ignore_eos": True} | (extra or {})
        try:
            return client.chat.completions.create(
                model=card.id, messages=messages or MESSAGES, extra_body=extra, **options
            )
        except openai.BadRequestError as error:
            if error.code == "no_chat_template":
                pytest.skip("this model has no chat template")
            raise

    return call


@pytest.fixture(scope="session")
def greedy_ids(complete):
    """What the model says to PROMPT, as ids."""
    return complete(max_tokens=24, extra={"return_token_ids": True}).choices[0].token_ids


def first_new(ids, begin=2):
    """A position from `begin` on whose id has not come before."""
    positions = (i for i in range(begin, len(ids)) if ids[i] not in ids[:i])
    position = next(positions, None)
    if position is None:
        pytest.skip("the model repeats one token from the start")
    return position


# Status


def test_health_version_metrics():
    for path in ("/health", "/health/live", "/health/ready"):
        assert http(path, key="wrong")[0] == 200
    assert "version" in json.loads(http("/version")[2])
    status, headers, text = http("/metrics", key="wrong")
    assert status == 200
    assert "version=0.0.4" in headers["Content-Type"]
    assert "http_requests_total" in text


def test_models(client, card):
    assert card.object == "model"
    assert card.max_model_len > 0
    assert client.models.retrieve(card.id).id == card.id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


# Tokens


def test_tokenize_and_back(card):
    answer = post("/tokenize", prompt=PROMPT, return_token_strs=True)
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] == card.max_model_len
    bare = post("/tokenize", prompt=PROMPT, add_special_tokens=False)
    assert bare["token_strs"] is None
    assert post("/detokenize", tokens=bare["tokens"])["prompt"].strip() == PROMPT


def test_tokenize_messages(chat):
    chat()  # skips where there is no template
    full = post("/tokenize", messages=MESSAGES)
    bare = post("/tokenize", messages=MESSAGES, add_generation_prompt=False)
    assert 0 < bare["count"] <= full["count"]
    assert MESSAGES[0]["content"] in post("/detokenize", tokens=full["tokens"])["prompt"]


# Completions


def test_completion(complete):
    answer = complete()
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens == post("/tokenize", prompt=PROMPT)["count"]
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert complete().choices[0].text == answer.choices[0].text


def test_every_form_of_prompt(complete):
    alone = [complete(text).choices[0].text for text in (PROMPT, "Once upon a time")]
    ids = [post("/tokenize", prompt=text)["tokens"] for text in (PROMPT, "Once upon a time")]
    assert complete(ids[0]).choices[0].text == alone[0]
    for prompts in ([PROMPT, "Once upon a time"], ids):
        answer = complete(prompts)
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert [choice.text for choice in answer.choices] == alone
        assert answer.usage.completion_tokens == 24


def test_stream_is_the_whole_answer(complete):
    events = list(complete(stream=True, stream_options={"include_usage": True}))
    assert events[-1].choices == []
    assert events[-1].usage.completion_tokens == 12
    assert all(event.usage is None for event in events[:-1])
    text = "".join(event.choices[0].text for event in events[:-1])
    assert text == complete().choices[0].text
    assert [event.choices[0].finish_reason for event in events[:-1]][-1] == "length"
    assert len({event.id for event in events}) == 1


def test_stream_with_usage_all_along(complete):
    options = {"continuous_usage_stats": True, "include_usage": True}
    events = list(complete(stream=True, stream_options=options))
    counts = [event.usage.completion_tokens for event in events]
    assert counts == sorted(counts) and counts[-1] == 12


def test_token_ids(complete):
    whole = complete(extra={"return_token_ids": True}).choices[0]
    assert len(whole.token_ids) == 12
    assert whole.prompt_token_ids == post("/tokenize", prompt=PROMPT)["tokens"]
    pieces = list(complete(stream=True, extra={"return_token_ids": True}))
    assert [i for piece in pieces for i in piece.choices[0].token_ids] == whole.token_ids
    assert pieces[0].choices[0].prompt_token_ids == whole.prompt_token_ids


def test_several_choices_and_seeds(complete):
    options = {"n": 3, "temperature": 1.5, "seed": 7}
    answer = complete(**options)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens == 36
    texts = [choice.text for choice in answer.choices]
    assert texts == [choice.text for choice in complete(**options).choices]
    assert len(set(texts)) > 1
    pieces = ["", "", ""]
    for event in complete(stream=True, **options):
        pieces[event.choices[0].index] += event.choices[0].text
    assert pieces == texts
    assert complete(temperature=1.5, seed=8).choices[0].text != texts[0]


def test_top_k_one_is_greedy(complete):
    sampled = complete(temperature=1.0, seed=1, extra={"top_k": 1})
    assert sampled.choices[0].text == complete().choices[0].text


def test_sampling_options_are_taken(complete):
    answer = complete(
        temperature=0.9,
        top_p=0.8,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        seed=3,
        best_of=1,
        user="someone",
        extra={"min_p": 0.05, "top_k": 40, "repetition_penalty": 1.1, "unknown_field": 1},
    )
    assert answer.usage.completion_tokens == 12


def test_logit_bias(complete):
    token = post("/tokenize", prompt="x", add_special_tokens=False)["tokens"][-1]
    answer = complete(logit_bias={str(token): 100}, extra={"return_token_ids": True})
    assert answer.choices[0].token_ids == [token] * 12


def test_echo(complete):
    answer = complete(echo=True)
    assert answer.choices[0].text == PROMPT + complete().choices[0].text
    events = complete(echo=True, stream=True)
    assert "".join(event.choices[0].text for event in events) == answer.choices[0].text


def test_logprobs(complete):
    logprobs = complete(logprobs=3).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 12
    assert logprobs.text_offset[0] == 0
    for token, chosen, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
        assert chosen <= 0
        assert 1 <= len(top) <= 4
        assert top[token] == pytest.approx(max(top.values()), abs=1e-5)  # greedy takes the best
    assert complete(logprobs=0).choices[0].logprobs.token_logprobs == logprobs.token_logprobs


def test_echo_with_logprobs(complete):
    count = post("/tokenize", prompt=PROMPT)["count"]
    logprobs = complete(echo=True, logprobs=1).choices[0].logprobs
    assert len(logprobs.tokens) == count + 12
    assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
    assert all(value <= 0 for value in logprobs.token_logprobs[1:])
    only_prompt = complete(echo=True, logprobs=1, max_tokens=0)
    assert len(only_prompt.choices[0].logprobs.tokens) == count
    assert only_prompt.usage.completion_tokens == 0


def test_prompt_logprobs(complete):
    ids = post("/tokenize", prompt=PROMPT)["tokens"]
    entries = complete(extra={"prompt_logprobs": 2}).choices[0].prompt_logprobs
    assert len(entries) == len(ids)
    assert entries[0] is None
    for token, entry in zip(ids[1:], entries[1:]):
        assert str(token) in entry
        assert all(alternative["logprob"] <= 0 for alternative in entry.values())


def test_stop_strings(complete):
    text = complete(max_tokens=24).choices[0].text
    if len(text) < 8 or "\ufffd" in text:
        pytest.skip("the model says nothing that can be cut")
    stop = text[4:6]
    before = text[: text.index(stop)]
    for stops in (stop, ["\x01never", stop]):
        choice = complete(max_tokens=24, stop=stops).choices[0]
        assert (choice.text, choice.finish_reason, choice.stop_reason) == (before, "stop", stop)
    with_stop = complete(
        max_tokens=24, stop=stop, extra={"include_stop_str_in_output": True}
    ).choices[0]
    assert with_stop.text == before + stop
    streamed = complete(max_tokens=24, stop=stop, stream=True)
    assert "".join(event.choices[0].text for event in streamed) == before


def test_stop_tokens_and_min_tokens(complete, greedy_ids):
    position = first_new(greedy_ids)
    token = greedy_ids[position]
    answer = complete(max_tokens=24, extra={"stop_token_ids": [token]})
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].stop_reason == token
    assert position <= answer.usage.completion_tokens <= position + 1
    longer = complete(
        max_tokens=24, extra={"stop_token_ids": [token], "min_tokens": position + 4}
    )
    assert longer.usage.completion_tokens >= position + 4


def test_skip_special_tokens_is_taken(complete):
    assert complete(extra={"skip_special_tokens": False}).usage.completion_tokens == 12


# Chat


def test_chat(chat):
    answer = chat()
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens == post("/tokenize", messages=MESSAGES)["count"]
    assert chat(max_completion_tokens=5).usage.completion_tokens == 5


def test_chat_stream(chat):
    events = list(chat(stream=True, stream_options={"include_usage": True}))
    assert events[0].choices[0].delta.role == "assistant"
    assert events[-1].usage.completion_tokens == 12
    text = "".join(event.choices[0].delta.content or "" for event in events[:-1])
    assert text == chat().choices[0].message.content
    assert events[-2].choices[0].finish_reason == "length"


def test_chat_content_parts(chat):
    parts = [{"type": "text", "text": MESSAGES[0]["content"]}]
    answer = chat([{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == chat().choices[0].message.content


def test_chat_logprobs(chat):
    answer = chat(logprobs=True, top_logprobs=2, extra={"return_token_ids": True})
    content = answer.choices[0].logprobs.content
    assert len(content) == 12
    for entry in content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 2
        assert bytes(entry.bytes).decode() == entry.token
    assert len(answer.choices[0].token_ids) == 12
    assert answer.prompt_token_ids == post("/tokenize", messages=MESSAGES)["tokens"]


def test_chat_choices_and_template_options(chat):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = chat(
        n=2,
        temperature=1.0,
        seed=5,
        tools=[tool],
        tool_choice="auto",
        response_format={"type": "text"},
        extra={"chat_template_kwargs": {"enable_thinking": False}, "add_generation_prompt": True},
    )
    assert len(answer.choices) == 2


# What is refused

REFUSED = {
    "temperature": -1,
    "top_p": 0,
    "n": 0,
    "max_tokens": -5,
    "presence_penalty": 9,
    "frequency_penalty": 9,
    "best_of": 2,
    "suffix": "end",
    "stop": "",
    "logprobs": 1000,
    "logit_bias": {"1": 1000},
    "seed": "abc",
    "top_k": -7,
    "min_p": 2,
    "repetition_penalty": 0,
    "response_format": {"type": "json_object"},
}


@pytest.mark.parametrize("field", REFUSED)
def test_bad_values_name_their_field(client, card, field):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(
            model=card.id, prompt=PROMPT, extra_body={field: REFUSED[field]}
        )
    assert caught.value.param == field
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("prompt", [None, 5, [], "", [[]], [-1], [10**9], [1, "a"]])
def test_bad_prompts(card, prompt):
    status, _, text = http("/v1/completions", {"model": card.id, "prompt": prompt})
    if prompt == "" and status == 200:
        return  # this tokenizer puts a BOS in front, so even the empty prompt has a token
    assert status == 400
    assert json.loads(text)["error"]["param"] == "prompt"


@pytest.mark.parametrize("messages", [None, [], "hi", [{}], [{"role": "user", "content": 5}]])
def test_bad_messages(card, messages):
    status, _, text = http("/v1/chat/completions", {"model": card.id, "messages": messages})
    assert status == 400
    assert json.loads(text)["error"]["param"] == "messages"


def test_broken_requests():
    for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
        assert http(path, b'{"a":')[0] == 400
        assert http(path)[0] == 405
    assert http("/v1/nothing")[0] == 404


def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="no-such-model", prompt="a")
    assert caught.value.code == "model_not_found"


def test_too_long_for_the_context(client, card):
    token = post("/tokenize", prompt="x", add_special_tokens=False)["tokens"][-1]
    for prompt, options in (
        ([token] * card.max_model_len, {}),
        ([token], {"max_tokens": card.max_model_len}),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model=card.id, prompt=prompt, **options)
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.skipif("PREGATE_API_KEY" not in os.environ, reason="the server wants no key")
def test_wrong_key():
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=BASE_URL + "/v1", api_key="wrong", max_retries=0).models.list()


# Many at once


def test_64_at_once_answer_as_alone(complete):
    prompts = [f"Request {i}: " + "word " * (i % 17) for i in range(64)]
    ids = {"return_token_ids": True}
    alone = [complete(prompt, extra=ids, max_tokens=16).choices[0] for prompt in prompts]

    def ask(idx):
        if idx % 2 == 0:
            choice = complete(prompts[idx], extra=ids, max_tokens=16).choices[0]
            return choice.text, choice.token_ids
        events = list(complete(prompts[idx], extra=ids, max_tokens=16, stream=True))
        return (
            "".join(event.choices[0].text for event in events),
            [token for event in events for token in event.choices[0].token_ids],
        )

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        together = list(pool.map(ask, range(64)))
    assert together == [(choice.text, choice.token_ids) for choice in alone]


def gauge(name):
    lines = [line for line in http("/metrics")[2].splitlines() if line.startswith(name + "{")]
    return float(lines[0].split()[-1]) if lines else None


def test_a_client_that_leaves_frees_its_place(complete, card):
    if gauge("vllm:num_requests_running") is None:
        pytest.skip("no scheduler metrics here")
    stream = complete(stream=True, max_tokens=card.max_model_len // 2)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 20
    while gauge("vllm:num_requests_running") > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gauge("vllm:num_requests_running") == 0
