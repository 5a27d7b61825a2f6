"""The official Python client in its Azure form, unmodified, through keyway to a resource of Azure.

The mock wants an `api-version` and one credential, and refuses what Azure would.
"""

import asyncio
import io

import pytest
from openai import AsyncAzureOpenAI, AzureOpenAI

from conftest import TCP

HELLO = [{"role": "user", "content": "hello"}]
OPTIONS = {"azure_endpoint": TCP.url, "api_version": "2023-05-15", "max_retries": 0, "timeout": 20.0}


@pytest.fixture
def azure():
    with AzureOpenAI(api_key="sk-of-the-caller", **OPTIONS) as client:
        yield client


def last(mock, deployment):
    seen = mock.requests(deployment)[-1]
    return seen["path"], seen["key"]


def test_chat(azure, mock):
    answer = azure.chat.completions.with_raw_response.create(model="azure-chat", messages=HELLO)
    assert answer.parse().choices[0].message.content
    assert answer.headers["x-keyway-provider"] == "azure"
    assert answer.headers["x-keyway-model"] == "azure-chat"
    assert last(mock, "azure-chat") == ("/openai/deployments/azure-chat/chat/completions", "azure-upstream-0123456789")


def test_stream(azure):
    stream = azure.chat.completions.create(model="azure-stream", messages=HELLO, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text


def test_a_deployment_of_the_client(mock):
    with AzureOpenAI(api_key="sk-of-the-caller", azure_deployment="azure-bound", **OPTIONS) as client:
        assert client.chat.completions.create(model="any", messages=HELLO).choices[0].message.content
    assert last(mock, "azure-bound")[0] == "/openai/deployments/azure-bound/chat/completions"


def test_a_token_of_the_caller(mock):
    with AzureOpenAI(azure_ad_token="token-of-the-caller", **OPTIONS) as client:
        assert client.chat.completions.create(model="azure-token", messages=HELLO).choices[0].message.content
    assert last(mock, "azure-token")[1] == "azure-upstream-0123456789"


def test_embeddings(azure, mock):
    answer = azure.embeddings.create(model="azure-embed", input=["a", "b"])
    assert len(answer.data) == 2
    assert last(mock, "azure-embed")[0] == "/openai/deployments/azure-embed/embeddings"


def test_transcription(azure, mock):
    azure.audio.transcriptions.create(model="azure-hear", file=("a.wav", io.BytesIO(b"RIFF")))
    assert last(mock, "azure-hear")[0] == "/openai/deployments/azure-hear/audio/transcriptions"


def test_speech(azure, mock):
    assert azure.audio.speech.create(model="azure-speak", input="x", voice="alloy").content
    assert last(mock, "azure-speak")[0] == "/openai/deployments/azure-speak/audio/speech"


def test_responses(azure, mock):
    assert azure.responses.create(model="azure-respond", input="hello").output_text
    assert last(mock, "azure-respond")[0] == "/openai/v1/responses"


def test_files(azure):
    file = azure.files.create(file=("a.jsonl", b"{}\n"), purpose="batch")
    assert file.id in {it.id for it in azure.files.list().data}
    assert azure.files.delete(file.id).deleted


def test_async():
    async def ask():
        async with AsyncAzureOpenAI(api_key="sk-of-the-caller", **OPTIONS) as client:
            return await client.chat.completions.create(model="azure-async", messages=HELLO)

    assert asyncio.run(ask()).choices[0].message.content
