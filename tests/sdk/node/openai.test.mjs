// The official Node client, unmodified, through keyway.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { both, hello, tcp, waitOpen } from './gateways.mjs';

const client = (gateway, options = {}) =>
  new OpenAI({ baseURL: gateway.url, apiKey: 'sk-of-the-caller', maxRetries: 0, timeout: 20_000, ...options });

const weather = {
  type: 'function',
  function: { name: 'get_weather', parameters: { type: 'object', properties: { place: { type: 'string' } } } },
};

for (const gateway of both) {
  const model = `${gateway.provider}/gpt-4o-mini`;

  test(`chat (${gateway.name})`, async () => {
    const { data, response } = await client(gateway).chat.completions.create({ model, messages: hello }).withResponse();
    assert.ok(data.choices[0].message.content);
    assert.equal(data.choices[0].finish_reason, 'stop');
    assert.equal(response.headers.get('x-keyway-provider'), gateway.provider);
  });

  test(`stream (${gateway.name})`, async () => {
    const stream = await client(gateway).chat.completions.create({
      model, messages: hello, stream: true, stream_options: { include_usage: true },
    });
    let text = '';
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? '';
      usage = chunk.usage ?? usage;
    }
    assert.ok(text);
    assert.ok(usage.total_tokens > 0);
  });

  test(`tools (${gateway.name})`, async () => {
    const answer = await client(gateway).chat.completions.create({
      model, messages: hello, tools: [weather], tool_choice: 'required',
    });
    const call = answer.choices[0].message.tool_calls[0];
    assert.equal(call.function.name, 'get_weather');
    assert.equal(typeof JSON.parse(call.function.arguments), 'object');
  });

  test(`embeddings (${gateway.name})`, async () => {
    const embeddings = client(gateway).embeddings;
    const asked = { model: `${gateway.provider}/text-embedding-3-small`, input: ['a', 'b'] };
    const packed = await embeddings.create(asked);
    const plain = await embeddings.create({ ...asked, encoding_format: 'float' });
    assert.equal(packed.data.length, 2);
    packed.data[0].embedding.forEach((value, at) => assert.ok(Math.abs(value - plain.data[0].embedding[at]) < 1e-6));
  });

  test(`models (${gateway.name})`, async () => {
    const ids = [];
    for await (const found of client(gateway).models.list()) ids.push(found.id);
    assert.ok(ids.length > 0);
    assert.equal((await client(gateway).models.retrieve(ids[0])).object, 'model');
  });

  test(`responses (${gateway.name})`, async () => {
    const answer = await client(gateway).responses.create({ model, input: 'hello' });
    assert.ok(answer.output_text);
    const stream = await client(gateway).responses.create({ model, input: 'hello', stream: true });
    const types = [];
    for await (const event of stream) types.push(event.type);
    assert.equal(types.at(-1), 'response.completed');
  });

  test(`transcription (${gateway.name})`, async () => {
    const file = await toFile(Buffer.alloc(10_000, 7), 'speech.wav', { type: 'audio/wav' });
    const answer = await client(gateway).audio.transcriptions.create({ model: `${gateway.provider}/whisper-1`, file });
    assert.ok(answer.text);
  });

  test(`unknown model (${gateway.name})`, async () => {
    const asked = client(gateway).chat.completions.create({ model: 'no-such-model-anywhere', messages: hello });
    await assert.rejects(asked, (error) => error instanceof OpenAI.NotFoundError && error.code === 'model_not_found');
  });
}

test('abort in mid-stream', async () => {
  await waitOpen(0, 5000);
  const stream = await client(tcp).chat.completions.create({
    model: 'openai/mock-bench-stream-10000-10', messages: hello, stream: true,
  });
  let count = 0;
  for await (const _ of stream) {
    if (++count === 3) break; // leaving the loop aborts the request
  }
  assert.ok((await waitOpen(0, 1000)) < 1000);
});

test('abort before the first byte', async () => {
  await waitOpen(0, 5000);
  const leaving = new AbortController();
  const asked = client(tcp).chat.completions.create(
    { model: 'openai/mock-hang', messages: hello }, { signal: leaving.signal },
  );
  const refused = assert.rejects(asked, OpenAI.APIUserAbortError);
  await waitOpen(1, 5000);
  leaving.abort();
  await refused;
  assert.ok((await waitOpen(0, 1000)) < 1000);
});

test('the client does not repeat what keyway gave up', async () => {
  const asked = client(tcp, { maxRetries: 2 }).chat.completions.create({ model: 'openai/mock-500', messages: hello });
  await assert.rejects(asked, (error) => error.status === 500 && error.headers.get('x-should-retry') === 'false');
});
