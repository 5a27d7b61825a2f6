"""The official Python client, unmodified, through keyway."""

import asyncio
import io
import json
import os
import time

import openai
import pytest
from openai import AsyncOpenAI

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


def test_chat(gateway, client):
    answer = client.chat.completions.with_raw_response.create(model=gateway.model("gpt-4o-mini"), messages=HELLO)
    chat = answer.parse()
    assert chat.choices[0].message.role == "assistant"
    assert chat.choices[0].message.content
    assert chat.choices[0].finish_reason == "stop"
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
    assert answer.headers["x-keyway-provider"] == gateway.provider
    assert answer.headers["x-keyway-model"] == "gpt-4o-mini"
    assert answer.headers["x-keyway-attempts"] == "1"
    assert answer.headers["x-keyway-generation"].startswith("1-")
    assert answer.headers["x-request-id"]


def test_bare_model_name(tcp):
    with tcp.client() as client:
        chat = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert chat.choices[0].message.content


def test_stream(gateway, client):
    whole = client.chat.completions.create(model=gateway.model("gpt-4o-mini"), messages=HELLO)
    stream = client.chat.completions.create(
        model=gateway.model("gpt-4o-mini"), messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_stream_without_usage(gateway, client):
    stream = client.chat.completions.create(model=gateway.model("gpt-4o-mini"), messages=HELLO, stream=True)
    assert all(chunk.usage is None for chunk in stream)


def test_stream_helper(gateway, client):
    with client.chat.completions.stream(model=gateway.model("gpt-4o-mini"), messages=HELLO) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "content.delta" in kinds
    assert final.choices[0].message.content


def test_tools(gateway, client):
    model = gateway.model("gpt-4o-mini")
    asked = client.chat.completions.create(model=model, messages=HELLO, tools=[WEATHER], tool_choice="required")
    assert asked.choices[0].finish_reason == "tool_calls"
    call = asked.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments), dict)

    history = HELLO + [
        asked.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    answered = client.chat.completions.create(model=model, messages=history)
    assert answered.choices[0].message.content


def test_tools_streamed(gateway, client):
    stream = client.chat.completions.create(
        model=gateway.model("gpt-4o-mini"), messages=HELLO, tools=[WEATHER], tool_choice="required", stream=True
    )
    name, arguments, finish = "", "", None
    for chunk in stream:
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                name += call.function.name or ""
                arguments += call.function.arguments or ""
    assert (name, finish) == ("get_weather", "tool_calls")
    assert isinstance(json.loads(arguments), dict)


def test_embeddings(gateway, client):
    model = gateway.model("text-embedding-3-small")
    # The client asks for base64 by itself and decodes it.
    packed = client.embeddings.create(model=model, input=["a", "b"])
    plain = client.embeddings.create(model=model, input=["a", "b"], encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding


def test_models(client):
    listed = [model.id for model in client.models.list()]
    assert listed
    assert len(set(listed)) == len(listed)
    one = client.models.retrieve(listed[0])
    assert one.id
    assert one.object == "model"


def test_legacy_completions(gateway, client):
    answer = client.completions.create(model=gateway.model("gpt-3.5-turbo-instruct"), prompt="hello")
    assert answer.choices[0].text


def test_responses(gateway, client):
    answer = client.responses.create(model=gateway.model("gpt-4o-mini"), input="hello")
    assert answer.status == "completed"
    assert answer.output_text


def test_responses_stream(gateway, client):
    events = list(client.responses.create(model=gateway.model("gpt-4o-mini"), input="hello", stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text


def test_moderations(gateway, client):
    answer = client.moderations.create(model=gateway.model("omni-moderation-latest"), input="hello")
    assert answer.results[0].flagged is False


def test_transcription(gateway, client):
    sound = ("speech.wav", b"RIFF" + bytes(range(256)) * 40, "audio/wav")
    answer = client.audio.transcriptions.create(model=gateway.model("whisper-1"), file=sound)
    assert answer.text


def test_speech(gateway, client):
    answer = client.audio.speech.create(model=gateway.model("tts-1"), voice="alloy", input="hello")
    assert len(answer.read()) > 0


def test_images(gateway, client):
    answer = client.images.generate(model=gateway.model("gpt-image-1"), prompt="a gateway")
    assert answer.data[0].b64_json or answer.data[0].url


def test_image_edit(gateway, client):
    answer = client.images.edit(model=gateway.model("gpt-image-1"), prompt="a gateway", image=("a.png", b"\x89PNG\r\n\x1a\n"))
    assert answer.data[0].b64_json or answer.data[0].url


def test_files(tcp):
    with tcp.client() as client:
        content = b'{"custom_id":"1"}\n'
        made = client.files.create(file=("batch.jsonl", io.BytesIO(content)), purpose="batch")
        assert made.id in [file.id for file in client.files.list()]
        assert client.files.retrieve(made.id).filename == "batch.jsonl"
        assert client.files.content(made.id).read() == content
        assert client.files.delete(made.id).deleted is True


def test_batches(tcp):
    with tcp.client() as client:
        file = client.files.create(file=("batch.jsonl", io.BytesIO(b"{}\n")), purpose="batch")
        made = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert client.batches.retrieve(made.id).id == made.id


def test_unknown_members_travel(gateway, client):
    answer = client.chat.completions.with_raw_response.create(
        model=gateway.model("mock-echo"), messages=HELLO, extra_body={"never_heard_of": {"big": 12345678901234567890}}
    )
    assert "12345678901234567890" in answer.text


def test_caller_key_stays_here(gateway, client):
    answer = client.chat.completions.with_raw_response.create(model=gateway.model("mock-echo"), messages=HELLO)
    assert "sk-of-the-caller" not in answer.text


def test_abort_in_mid_stream(tcp, mock):
    mock.wait_open(0, 5)
    with tcp.client() as client:
        stream = client.chat.completions.create(model=tcp.model("mock-bench-stream-10000-10"), messages=HELLO, stream=True)
        for count, _ in enumerate(stream):
            if count == 3:
                break
        assert mock.open() == 1
        stream.close()
        assert mock.wait_open(0, 1.0) < 1.0


def test_abort_before_the_first_byte(tcp, mock):
    mock.wait_open(0, 5)
    with tcp.client(timeout=0.5) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model=tcp.model("mock-hang"), messages=HELLO)
    assert mock.wait_open(0, 1.0) < 1.0


def test_stream_cut_by_the_upstream_is_an_error(tcp):
    with tcp.client() as client:
        stream = client.chat.completions.create(model=tcp.model("mock-cut-3"), messages=HELLO, stream=True)
        with pytest.raises(openai.APIError):
            list(stream)


def test_many_at_once(gateway):
    async def ask():
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-of-the-caller", max_retries=0) as client:
            asks = [
                client.chat.completions.create(
                    model=gateway.model("gpt-4o-mini"), messages=[{"role": "user", "content": f"number {number}"}]
                )
                for number in range(50)
            ]
            return await asyncio.gather(*asks)

    answers = asyncio.run(ask())
    assert len(answers) == 50
    assert all(answer.choices[0].message.content for answer in answers)


def test_async_abort(tcp, mock):
    async def leave():
        async with AsyncOpenAI(base_url=f"{tcp.url}/v1", api_key="sk-of-the-caller", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model=tcp.model("mock-bench-stream-10000-10"), messages=HELLO, stream=True
            )
            async for _ in stream:
                break
            await stream.close()
            return await asyncio.to_thread(mock.wait_open, 0, 1.0)

    mock.wait_open(0, 5)
    assert asyncio.run(leave()) < 1.0


def test_unknown_model(gateway, client):
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="no-such-model-anywhere", messages=HELLO)
    assert raised.value.code == "model_not_found"
    assert raised.value.type == "invalid_request_error"
    assert raised.value.body["message"]


def test_missing_and_wrong_key():
    for key in ["sk-wrong", "x" * 64]:
        with openai.OpenAI(base_url=os.environ["KEYWAY_PROJECT_URL"] + "/v1", api_key=key, max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as raised:
                client.chat.completions.create(model="openai/gpt-4o-mini", messages=HELLO)
            assert raised.value.status_code == 401
            assert raised.value.body["message"]
            assert key not in json.dumps(raised.value.body)


def test_right_key():
    key = os.environ["KEYWAY_PROJECT_KEY"]
    with openai.OpenAI(base_url=os.environ["KEYWAY_PROJECT_URL"] + "/v1", api_key=key, max_retries=0) as client:
        chat = client.chat.completions.create(model="openai/gpt-4o-mini", messages=HELLO)
    assert chat.choices[0].message.content


def test_upstream_errors_have_their_type(tcp):
    with tcp.client() as client:
        for model, kind in [
            ("mock-404", openai.NotFoundError),
            ("mock-500", openai.InternalServerError),
            ("mock-503", openai.InternalServerError),
        ]:
            with pytest.raises(kind) as raised:
                client.chat.completions.create(model=tcp.model(model), messages=HELLO)
            assert raised.value.body, model


def test_a_refused_upstream_key_is_not_the_callers_fault(tcp):
    with tcp.client(max_retries=2) as client, pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="spare/mock-401", messages=HELLO)
    assert raised.value.status_code == 502
    assert raised.value.code == "upstream_credentials_exhausted"
    assert raised.value.response.headers["x-should-retry"] == "false"


def test_the_client_does_not_repeat_what_keyway_gave_up(tcp, mock):
    before = len(mock.requests("mock-500"))
    started = time.monotonic()
    with tcp.client(max_retries=2) as client, pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=tcp.model("mock-500"), messages=HELLO)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(mock.requests("mock-500")) - before == 1
    assert time.monotonic() - started < 5
