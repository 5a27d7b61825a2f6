"""The official Gemini client, unmodified, through keyway."""

import asyncio
import io
import json
import os

import pytest
from google import genai
from google.genai import errors, types

WEATHER = types.FunctionDeclaration(
    name="get_weather",
    description="weather of a place",
    parameters={"type": "OBJECT", "properties": {"place": {"type": "STRING"}}, "required": ["place"]},
)
TOOLS = [types.Tool(function_declarations=[WEATHER])]


def client_of(url: str, key: str = "key-of-the-caller") -> genai.Client:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url, timeout=20_000))


@pytest.fixture
def gemini(gateway):
    with client_of(gateway.url) as client:
        yield client


@pytest.fixture
def model(gateway):
    """A bare name is the vendor's here; the embedded mock has to be asked for."""
    return "gemini-x" if gateway.provider == "openai" else "mock/gemini-x"


def test_content(gemini, model):
    answer = gemini.models.generate_content(model=model, contents="hello")
    assert answer.text == "mock: hello"
    assert answer.model_version == "gemini-x"
    assert answer.candidates[0].finish_reason == "STOP"
    assert answer.usage_metadata.total_token_count > 0
    assert answer.sdk_http_response.headers["x-keyway-model"] == "gemini-x"


def test_prefix_of_its_own(tcp):
    with client_of(f"{tcp.url}/genai") as client:
        for name in ["gemini-x", "models/gemini-x", "gemini/gemini-x", "tunedModels/mine"]:
            assert client.models.generate_content(model=name, contents="hello").text == "mock: hello"


def test_the_key_that_arrives_is_not_the_callers(tcp, mock):
    with client_of(tcp.url) as client:
        client.models.generate_content(model="gemini/gemini-keyed", contents="hello")
    assert {seen["key"] for seen in mock.requests("gemini-keyed")} == {"goog-upstream-0123456789"}


def test_stream(gemini, model):
    chunks = list(gemini.models.generate_content_stream(model=model, contents="hello there"))
    assert "".join(chunk.text for chunk in chunks) == "mock: hello there"
    assert len(chunks) == 3
    assert chunks[-1].candidates[0].finish_reason == "STOP"


def test_tools(gemini, model):
    config = types.GenerateContentConfig(tools=TOOLS)
    asked = gemini.models.generate_content(model=model, contents="hello", config=config)
    call = asked.function_calls[0]
    assert (call.name, call.args) == ("get_weather", {"place": "mock"})
    result = types.Part.from_function_response(name=call.name, response={"result": "sunny"})
    history = [
        types.UserContent("hello"),
        asked.candidates[0].content,
        types.Content(role="user", parts=[result]),
    ]
    answered = gemini.models.generate_content(model=model, contents=history, config=config)
    assert answered.text == "mock: sunny"


def test_tools_streamed(gemini, model):
    config = types.GenerateContentConfig(tools=TOOLS)
    chunks = list(gemini.models.generate_content_stream(model=model, contents="hello", config=config))
    assert [call.name for chunk in chunks for call in chunk.function_calls or []] == ["get_weather"]


def test_thoughts_and_schema(gemini, model):
    config = types.GenerateContentConfig(
        thinking_config=types.ThinkingConfig(include_thoughts=True),
        response_mime_type="application/json",
        response_schema={"type": "OBJECT", "properties": {"place": {"type": "STRING"}}},
    )
    answer = gemini.models.generate_content(model=model, contents="hello", config=config)
    assert [part.thought for part in answer.candidates[0].content.parts] == [True, None]
    assert json.loads(answer.text) == {"place": "mock"}


def test_count_tokens(gemini, model):
    assert gemini.models.count_tokens(model=model, contents="one two three").total_tokens == 3


def test_embeddings(gemini, gateway):
    # The body names the model once more for each text, and the upstream compares.
    prefix = "gemini" if gateway.provider == "openai" else "mock"
    for name in [f"{prefix}/embedding-x", f"models/{prefix}/embedding-x"]:
        answer = gemini.models.embed_content(model=name, contents=["a", "b"])
        assert len(answer.embeddings) == 2
        assert answer.embeddings[0].values != answer.embeddings[1].values


def test_models(tcp):
    with client_of(tcp.url) as client:
        assert "models/mock-small" in [model.name for model in client.models.list()]
        assert client.models.get(model="mock-small").name == "models/mock-small"
        with pytest.raises(errors.ClientError) as raised:
            client.models.get(model="nothing-of-the-kind")
        assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")


def test_files(tcp):
    with client_of(tcp.url) as client:
        config = types.UploadFileConfig(mime_type="application/json", display_name="notes")
        made = client.files.upload(file=io.BytesIO(b'{"some": "notes"}\n{}'), config=config)
        assert (made.display_name, made.size_bytes) == ("notes", 20)
        assert client.files.get(name=made.name).name == made.name
        assert made.name in [file.name for file in client.files.list()]
        client.files.delete(name=made.name)
        with pytest.raises(errors.ClientError):
            client.files.get(name=made.name)


def test_errors_have_their_status(tcp):
    with client_of(tcp.url) as client:
        for name, code, status, kind in [
            ("mock-400", 400, "INVALID_ARGUMENT", errors.ClientError),
            ("mock-404", 404, "NOT_FOUND", errors.ClientError),
            ("mock-500", 500, "INTERNAL", errors.ServerError),
            ("mock-503", 503, "UNAVAILABLE", errors.ServerError),
            ("openai/gpt-x", 400, "INVALID_ARGUMENT", errors.ClientError),
            ("@nothing", 404, "NOT_FOUND", errors.ClientError),
        ]:
            with pytest.raises(kind) as raised:
                client.models.generate_content(model=name, contents="hello")
            assert (raised.value.code, raised.value.status) == (code, status), name


def test_a_refused_upstream_key_is_not_the_callers_fault(tcp):
    with client_of(tcp.url) as client, pytest.raises(errors.ServerError) as raised:
        client.models.generate_content(model="gemini-spare/mock-401", contents="hello")
    assert (raised.value.code, raised.value.status) == (502, "INTERNAL")
    assert "goog-refused" not in str(raised.value)


def test_missing_and_right_key():
    url = os.environ["KEYWAY_PROJECT_URL"]
    with client_of(url) as client, pytest.raises(errors.ClientError) as raised:
        client.models.generate_content(model="gemini-x", contents="hello")
    assert (raised.value.code, raised.value.status) == (401, "UNAUTHENTICATED")
    with client_of(url, os.environ["KEYWAY_PROJECT_KEY"]) as client:
        assert client.models.generate_content(model="gemini-x", contents="hello").text


def test_stream_cut_by_the_upstream_is_an_error(tcp):
    with client_of(tcp.url) as client, pytest.raises(Exception) as raised:
        list(client.models.generate_content_stream(model="mock-cut-2", contents="some words more than two"))
    assert not isinstance(raised.value, AssertionError)


def test_many_at_once(gateway, model):
    async def ask():
        client = client_of(gateway.url)
        asks = [client.aio.models.generate_content(model=model, contents=f"number {number}") for number in range(20)]
        answers = await asyncio.gather(*asks)
        await client.aio.aclose()
        return answers

    assert [answer.text for answer in asyncio.run(ask())] == [f"mock: number {number}" for number in range(20)]
