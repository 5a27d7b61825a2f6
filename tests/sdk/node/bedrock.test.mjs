// AWS's client for Node, unmodified, through keyway: it speaks HTTP/2 only, without TLS too.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand, InvokeModelCommand, ResourceNotFoundException,
} from '@aws-sdk/client-bedrock-runtime';
import { tcp } from './gateways.mjs';

const credentials = { accessKeyId: 'AKIDOFTHECALLER', secretAccessKey: 'secret-of-the-caller' };
const ask = async (command, endpoint = tcp.origin) => {
  const client = new BedrockRuntimeClient({ region: 'us-east-1', endpoint, credentials, maxAttempts: 1 });
  try {
    const answer = await client.send(command);
    const events = [];
    if (answer.stream) for await (const event of answer.stream) events.push(event);
    return { answer, events };
  } finally {
    client.destroy();
  }
};
const messages = [{ role: 'user', content: [{ text: 'hello there' }] }];
const modelId = 'anthropic.claude-x-v1:0';

test('converse', async () => {
  const { answer } = await ask(new ConverseCommand({ modelId, messages }));
  assert.deepEqual(answer.output.message.content, [{ text: 'mock: hello there' }]);
  assert.ok(answer.$metadata.requestId);
});

test('converse, streamed, under the prefix', async () => {
  const { events } = await ask(new ConverseStreamCommand({ modelId, messages }), `${tcp.origin}/bedrock`);
  const text = events.map((event) => event.contentBlockDelta?.delta.text ?? '').join('');
  assert.equal(text, 'mock: hello there');
  assert.ok(events.at(-1).metadata);
});

test('invoke', async () => {
  const body = JSON.stringify({ inputText: 'hello' });
  const { answer } = await ask(new InvokeModelCommand({ modelId, body }));
  assert.ok(JSON.parse(new TextDecoder().decode(answer.body)).embedding.length > 0);
});

test('errors have their name', async () => {
  await assert.rejects(ask(new ConverseCommand({ modelId: 'mock-404', messages })), ResourceNotFoundException);
  await assert.rejects(ask(new ConverseCommand({ modelId: 'openai/gpt-x', messages })), { name: 'ValidationException' });
});

test('a stream cut by the upstream is an error', async () => {
  await assert.rejects(ask(new ConverseStreamCommand({ modelId: 'mock-cut-3', messages })));
});
