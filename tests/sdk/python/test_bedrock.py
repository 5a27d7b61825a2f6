"""boto3, unmodified, through keyway; and Anthropic's own client for Bedrock."""

import json
import os

import boto3
import pytest
from anthropic import AnthropicBedrock
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

HELLO = [{"role": "user", "content": [{"text": "hello there"}]}]
WEATHER = {
    "tools": [
        {
            "toolSpec": {
                "name": "get_weather",
                "inputSchema": {"json": {"type": "object", "properties": {"place": {"type": "string"}}}},
            }
        }
    ]
}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]}
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x-v1:0"


def client_of(url: str, key: str = "AKIDOFTHECALLER"):
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key="secret-of-the-caller",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=20),
    )


@pytest.fixture
def bedrock(gateway):
    return client_of(gateway.url)


@pytest.fixture
def model(gateway):
    """A bare name is the vendor's here; the embedded mock has to be asked for."""
    return "anthropic.claude-x-v1:0" if gateway.provider == "openai" else "mock/anthropic.claude-x-v1:0"


def text_of(events) -> str:
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    return "".join(delta.get("text", "") for delta in deltas)


def test_converse(bedrock, model):
    answer = bedrock.converse(modelId=model, messages=HELLO)
    assert answer["output"]["message"]["content"] == [{"text": "mock: hello there"}]
    assert (answer["stopReason"], answer["usage"]["totalTokens"] > 0) == ("end_turn", True)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-keyway-model"] == "anthropic.claude-x-v1:0"
    # The id by which the client names a request is ours.
    assert answer["ResponseMetadata"]["RequestId"] == headers["x-request-id"]


def test_converse_stream(bedrock, model):
    answer = bedrock.converse_stream(modelId=model, messages=HELLO)
    events = list(answer["stream"])
    assert text_of(events) == "mock: hello there"
    assert [next(iter(event)) for event in events[-3:]] == ["contentBlockStop", "messageStop", "metadata"]


def test_tools(bedrock, model):
    asked = bedrock.converse(modelId=model, messages=HELLO, toolConfig=WEATHER)
    message = asked["output"]["message"]
    tool = message["content"][0]["toolUse"]
    assert (asked["stopReason"], tool["name"], tool["input"]) == ("tool_use", "get_weather", {"place": "mock"})
    result = {"toolResult": {"toolUseId": tool["toolUseId"], "content": [{"text": "sunny"}]}}
    history = [*HELLO, message, {"role": "user", "content": [result]}]
    answered = bedrock.converse(modelId=model, messages=history, toolConfig=WEATHER)
    assert answered["output"]["message"]["content"] == [{"text": "mock: sunny"}]


def test_tools_streamed(bedrock, model):
    events = list(bedrock.converse_stream(modelId=model, messages=HELLO, toolConfig=WEATHER)["stream"])
    start = next(event["contentBlockStart"] for event in events if "contentBlockStart" in event)
    delta = next(event["contentBlockDelta"] for event in events if "contentBlockDelta" in event)
    assert start["start"]["toolUse"]["name"] == "get_weather"
    assert json.loads(delta["delta"]["toolUse"]["input"]) == {"place": "mock"}


def test_invoke(bedrock, model):
    answer = bedrock.invoke_model(modelId=model, body=json.dumps(CLAUDE))
    message = json.loads(answer["body"].read())
    assert message["content"] == [{"type": "text", "text": "mock: hello"}]
    embedded = bedrock.invoke_model(modelId=model, body=json.dumps({"inputText": "hello"}))
    assert len(json.loads(embedded["body"].read())["embedding"]) > 0


def test_invoke_stream(bedrock, model):
    answer = bedrock.invoke_model_with_response_stream(modelId=model, body=json.dumps(CLAUDE))
    events = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    assert "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta") == "mock: hello"


def test_an_arn_is_one_segment(tcp, mock):
    answer = client_of(tcp.url).converse(modelId=ARN, messages=HELLO)
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-keyway-model"] == ARN
    seen = mock.requests(ARN)[-1]
    assert seen["path"] == "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude-x-v1%3A0/converse"


def test_prefix_provider_and_the_key_that_arrives(tcp, mock):
    client_of(f"{tcp.url}/bedrock").converse(modelId="bedrock/keyed-v1:0", messages=HELLO)
    assert {seen["key"] for seen in mock.requests("keyed-v1:0")} == {"AKIDUPSTREAM"}


def test_errors_have_their_name(tcp):
    client = client_of(tcp.url)
    for model, code, status in [
        ("mock-400", "ValidationException", 400),
        ("mock-404", "ResourceNotFoundException", 404),
        ("mock-424", "ModelErrorException", 424),
        ("mock-500", "InternalServerException", 500),
        ("openai/gpt-x", "ValidationException", 400),
        ("@nothing", "ResourceNotFoundException", 404),
        ("bedrock-spare/mock-401", "InternalServerException", 502),
    ]:
        with pytest.raises(ClientError) as raised:
            client.converse(modelId=model, messages=HELLO)
        told = raised.value.response
        assert (told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), model
        assert told["Error"]["Message"], model
        assert "bedrock-refused" not in str(told)


def test_an_access_key_id_is_the_project_key():
    url = os.environ["KEYWAY_PROJECT_URL"]
    with pytest.raises(ClientError) as raised:
        client_of(url).converse(modelId="some-model", messages=HELLO)
    assert raised.value.response["Error"]["Code"] == "UnrecognizedClientException"
    answer = client_of(url, os.environ["KEYWAY_PROJECT_KEY"]).converse(modelId="some-model", messages=HELLO)
    assert answer["output"]["message"]["content"]


def test_a_stream_cut_between_frames_is_an_error(tcp):
    answer = client_of(tcp.url).converse_stream(modelId="mock-cut-3", messages=HELLO)
    with pytest.raises(EventStreamError) as raised:
        list(answer["stream"])
    assert "serviceUnavailableException" in str(raised.value)


def test_an_error_of_the_upstream_in_mid_stream(tcp):
    answer = client_of(tcp.url).converse_stream(modelId="mock-error-mid-stream", messages=HELLO)
    with pytest.raises(EventStreamError) as raised:
        list(answer["stream"])
    assert "modelStreamErrorException" in str(raised.value)


def test_anthropics_client(tcp):
    client = AnthropicBedrock(
        base_url=tcp.url, aws_region="us-east-1", aws_access_key="AKIDOFTHECALLER", aws_secret_key="s", max_retries=0
    )
    options = {"model": "us.anthropic.claude-x-v1:0", "max_tokens": 64, "messages": CLAUDE["messages"]}
    assert client.messages.create(**options).content[0].text == "mock: hello"
    with client.messages.stream(**options) as stream:
        assert stream.get_final_message().content[0].text == "mock: hello"
