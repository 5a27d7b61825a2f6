// The official Anthropic client for Node, unmodified, through keyway.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { hello, tcp } from './gateways.mjs';

const client = (options = {}) =>
  new Anthropic({ baseURL: tcp.origin, apiKey: 'sk-of-the-caller', maxRetries: 0, timeout: 20_000, ...options });
const asked = { model: 'claude-x', max_tokens: 64, messages: hello };
const weather = {
  name: 'get_weather',
  input_schema: { type: 'object', properties: { place: { type: 'string' } }, required: ['place'] },
};

test('message', async () => {
  const { data, response } = await client().messages.create(asked).withResponse();
  assert.equal(data.content[0].text, 'mock: hello');
  assert.equal(data._request_id, response.headers.get('x-request-id'));
});

test('message under the prefix', async () => {
  const answer = await client({ baseURL: `${tcp.origin}/anthropic` }).messages.create(asked);
  assert.equal(answer.stop_reason, 'end_turn');
});

test('stream', async () => {
  const final = await client().messages.stream(asked).finalMessage();
  assert.equal(final.content[0].text, 'mock: hello');
});

test('tools, streamed', async () => {
  const final = await client().messages.stream({ ...asked, tools: [weather] }).finalMessage();
  assert.equal(final.stop_reason, 'tool_use');
  assert.deepEqual(final.content[0].input, { place: 'mock' });
});

test('count tokens', async () => {
  const counted = await client().messages.countTokens({ model: 'claude-x', messages: hello });
  assert.equal(counted.input_tokens, 1);
});

test('models', async () => {
  const ids = [];
  for await (const model of client().models.list()) ids.push(model.id);
  assert.ok(ids.includes('anthropic/mock-small'));
});

test('errors have their type', async () => {
  await assert.rejects(client().messages.create({ ...asked, model: 'mock-404' }), Anthropic.NotFoundError);
  await assert.rejects(client().messages.create({ ...asked, model: 'mock-529' }), (error) => {
    assert.equal(error.status, 529);
    assert.equal(error.error.error.type, 'overloaded_error');
    return true;
  });
  await assert.rejects(client().messages.create({ ...asked, model: 'openai/gpt' }), Anthropic.BadRequestError);
});

test('a stream cut by the upstream is an error', async () => {
  const stream = await client().messages.create({ ...asked, model: 'mock-cut-3', stream: true });
  await assert.rejects(async () => { for await (const _ of stream); }, Anthropic.APIError);
});
