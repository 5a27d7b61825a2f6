"""The official Anthropic client, unmodified, through keyway."""

import asyncio
import io
import json
import os
import time

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "name": "get_weather",
    "description": "weather of a place",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
OPTIONS = {"api_key": "sk-of-the-caller", "max_retries": 0, "timeout": 20.0}


def name_of(gateway, model: str) -> str:
    """A bare name is the vendor's here; the embedded mock has to be asked for."""
    return model if gateway.provider == "openai" else gateway.model(model)


def client_of(gateway, **options) -> Anthropic:
    return Anthropic(base_url=gateway.url, **(OPTIONS | options))


@pytest.fixture
def claude(gateway):
    with client_of(gateway) as client:
        yield client


@pytest.fixture
def model(gateway):
    return name_of(gateway, "claude-x")


def test_message(gateway, claude, model):
    raw = claude.messages.with_raw_response.create(model=model, max_tokens=64, messages=HELLO)
    message = raw.parse()
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert message.content[0].text
    assert message.usage.input_tokens > 0
    assert raw.headers["x-keyway-model"] == "claude-x"
    # The id by which the client names a request is ours.
    assert raw.headers["request-id"] == raw.headers["x-request-id"]
    assert message._request_id == raw.headers["x-request-id"]


def test_prefix_of_its_own(tcp):
    with Anthropic(base_url=f"{tcp.url}/anthropic", **OPTIONS) as client:
        assert client.messages.create(model="anthropic/claude-x", max_tokens=64, messages=HELLO).content[0].text


def test_the_key_that_arrives_is_not_the_callers(tcp, mock):
    with client_of(tcp) as client:
        client.messages.create(model="claude-keyed", max_tokens=64, messages=HELLO)
    assert {seen["key"] for seen in mock.requests("claude-keyed")} == {"sk-ant-upstream-0123456789"}


def test_stream(claude, model):
    whole = claude.messages.create(model=model, max_tokens=64, messages=HELLO)
    events = list(claude.messages.create(model=model, max_tokens=64, messages=HELLO, stream=True))
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    assert text == whole.content[0].text


def test_stream_helper(claude, model):
    with claude.messages.stream(model=model, max_tokens=64, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text
    assert final.usage.output_tokens > 0


def test_tools(claude, model):
    asked = claude.messages.create(
        model=model, max_tokens=64, messages=HELLO, tools=[WEATHER], tool_choice={"type": "any"}
    )
    call = asked.content[0]
    assert (asked.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "get_weather")
    assert call.input == {"place": "mock"}
    history = HELLO + [
        {"role": "assistant", "content": [block.model_dump() for block in asked.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]},
    ]
    answered = claude.messages.create(model=model, max_tokens=64, messages=history, tools=[WEATHER])
    assert answered.content[0].text == "mock: sunny"


def test_tools_streamed(claude, model):
    with claude.messages.stream(model=model, max_tokens=64, messages=HELLO, tools=[WEATHER]) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.content[0].input) == ("tool_use", {"place": "mock"})


def test_thinking(claude, model):
    options = {"model": model, "max_tokens": 2048, "messages": HELLO, "thinking": {"type": "adaptive"}}
    whole = claude.messages.create(**options)
    with claude.messages.stream(**options) as stream:
        streamed = stream.get_final_message()
    for message in [whole, streamed]:
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert message.content[0].thinking and message.content[0].signature


def test_count_tokens(claude, model):
    counted = claude.messages.count_tokens(model=model, messages=[{"role": "user", "content": "one two three"}])
    assert counted.input_tokens == 3


def test_models(tcp):
    with client_of(tcp) as client:
        listed = [model.id for model in client.models.list()]
        assert "anthropic/mock-small" in listed
        assert client.models.retrieve("anthropic/mock-small").type == "model"
    with Anthropic(base_url=f"{tcp.url}/anthropic", **OPTIONS) as client:
        assert "mock-small" in [model.id for model in client.models.list()]


def test_batches(tcp):
    with client_of(tcp) as client:
        params = {"model": "claude-x", "max_tokens": 64, "messages": HELLO}
        made = client.messages.batches.create(requests=[{"custom_id": "one", "params": params}])
        assert made.processing_status == "ended"
        assert client.messages.batches.retrieve(made.id).id == made.id
        assert made.id in [batch.id for batch in client.messages.batches.list()]
        results = client.get(f"/v1/messages/batches/{made.id}/results", cast_to=object)
        assert client.messages.batches.cancel(made.id).id == made.id
    assert results


def test_files(tcp):
    with client_of(tcp) as client:
        made = client.beta.files.upload(file=("notes.txt", io.BytesIO(b"some notes"), "text/plain"))
        assert client.beta.files.retrieve_metadata(made.id).filename == "notes.txt"
        assert made.id in [file.id for file in client.beta.files.list()]
        assert client.beta.files.download(made.id).read() == b"some notes"
        assert client.beta.files.delete(made.id).id == made.id


def test_beta_and_unknown_members_travel(claude, gateway):
    answer = claude.messages.with_raw_response.create(
        model=name_of(gateway, "mock-echo"),
        max_tokens=64,
        messages=HELLO,
        extra_headers={"anthropic-beta": "one-2026,two-2026"},
        extra_body={"never_heard_of": {"big": 12345678901234567890}},
    )
    told = json.loads(answer.text())
    headers = dict(told["headers"])
    assert headers["anthropic-beta"] == "one-2026,two-2026"
    # What the client sends by itself arrives as it is.
    assert headers["anthropic-version"] == "2026-10-21"
    assert "12345678901234567890" in told["body"]
    assert "sk-of-the-caller" not in answer.text()


def test_errors_have_their_type(tcp):
    with client_of(tcp) as client:
        for model, kind, error_type in [
            ("mock-400", anthropic.BadRequestError, "invalid_request_error"),
            ("mock-404", anthropic.NotFoundError, "not_found_error"),
            ("mock-413", anthropic.APIStatusError, "request_too_large"),
            ("mock-500", anthropic.InternalServerError, "api_error"),
            ("mock-529", anthropic.InternalServerError, "overloaded_error"),
        ]:
            with pytest.raises(kind) as raised:
                client.messages.create(model=model, max_tokens=64, messages=HELLO)
            assert raised.value.body["error"]["type"] == error_type, model
            assert raised.value.request_id, model


def test_a_refused_upstream_key_is_not_the_callers_fault(tcp):
    with client_of(tcp, max_retries=2) as client, pytest.raises(anthropic.InternalServerError) as raised:
        client.messages.create(model="claude-spare/mock-401", max_tokens=64, messages=HELLO)
    assert raised.value.status_code == 502
    assert raised.value.body["error"]["type"] == "api_error"
    assert "sk-ant" not in json.dumps(raised.value.body)


def test_the_client_does_not_repeat_what_keyway_gave_up(tcp, mock):
    before = len(mock.requests("mock-500.messages"))
    started = time.monotonic()
    with client_of(tcp, max_retries=2) as client, pytest.raises(anthropic.InternalServerError):
        client.messages.create(model="mock-500.messages", max_tokens=64, messages=HELLO)
    assert len(mock.requests("mock-500.messages")) - before == 1
    assert time.monotonic() - started < 5


def test_what_only_openai_serves_is_refused(tcp):
    with client_of(tcp) as client, pytest.raises(anthropic.BadRequestError) as raised:
        client.messages.create(model="openai/gpt-4o-mini", max_tokens=64, messages=HELLO)
    assert "translation between dialects is not there yet" in raised.value.body["error"]["message"]


def test_missing_and_wrong_key():
    with Anthropic(base_url=os.environ["KEYWAY_PROJECT_URL"], **OPTIONS | {"api_key": "sk-wrong"}) as client:
        with pytest.raises(anthropic.AuthenticationError) as raised:
            client.messages.create(model="claude-x", max_tokens=64, messages=HELLO)
    assert raised.value.body["error"]["type"] == "authentication_error"
    assert raised.value.body["request_id"] == raised.value.request_id


def test_right_key_in_either_header():
    url, key = os.environ["KEYWAY_PROJECT_URL"], os.environ["KEYWAY_PROJECT_KEY"]
    for headers in [{}, {"x-api-key": key}]:
        with Anthropic(base_url=url, **OPTIONS | {"api_key": key}, default_headers=headers) as client:
            assert client.messages.create(model="claude-x", max_tokens=64, messages=HELLO).content


def test_stream_cut_by_the_upstream_is_an_error(tcp):
    with client_of(tcp) as client:
        stream = client.messages.create(model="mock-cut-3", max_tokens=64, messages=HELLO, stream=True)
        with pytest.raises(anthropic.APIError) as raised:
            list(stream)
    assert raised.value.body["error"]["type"] == "api_error"


def test_abort_in_mid_stream(tcp, mock):
    mock.wait_open(0, 5)
    words = [{"role": "user", "content": "word " * 2000}]
    with client_of(tcp) as client:
        stream = client.messages.create(model="mock-drip-10", max_tokens=4096, messages=words, stream=True)
        for count, _ in enumerate(stream):
            if count == 3:
                break
        assert mock.open() == 1
        stream.close()
        assert mock.wait_open(0, 1.0) < 1.0


def test_many_at_once(gateway):
    async def ask():
        async with AsyncAnthropic(base_url=gateway.url, **OPTIONS) as client:
            asks = [
                client.messages.create(
                    model=name_of(gateway, "claude-x"),
                    max_tokens=64,
                    messages=[{"role": "user", "content": f"number {number}"}],
                )
                for number in range(30)
            ]
            return await asyncio.gather(*asks)

    answers = asyncio.run(ask())
    assert [answer.content[0].text for answer in answers] == [f"mock: number {number}" for number in range(30)]


def test_async_stream(gateway):
    async def ask():
        async with AsyncAnthropic(base_url=gateway.url, **OPTIONS) as client:
            model = name_of(gateway, "claude-x")
            async with client.messages.stream(model=model, max_tokens=64, messages=HELLO) as stream:
                return await stream.get_final_message()

    assert asyncio.run(ask()).content[0].text == "mock: hello"
