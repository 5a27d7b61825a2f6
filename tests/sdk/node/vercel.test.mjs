// Vercel's AI SDK with its OpenAI provider; its default model object calls /responses, not chat.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAI } from '@ai-sdk/openai';
import { embedMany, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import { both, tcp, waitOpen } from './gateways.mjs';

const provider = (gateway) => createOpenAI({ baseURL: gateway.url, apiKey: 'sk-of-the-caller' });
const once = { prompt: 'hello', maxRetries: 0 };

for (const gateway of both) {
  const model = `${gateway.provider}/gpt-4o-mini`;
  const kinds = { chat: provider(gateway).chat(model), responses: provider(gateway)(model) };

  for (const [kind, object] of Object.entries(kinds)) {
    test(`generateText over ${kind} (${gateway.name})`, async () => {
      const answer = await generateText({ model: object, ...once });
      assert.ok(answer.text);
      assert.equal(answer.finishReason, 'stop');
    });

    test(`streamText over ${kind} (${gateway.name})`, async () => {
      const answer = streamText({ model: object, ...once, onError: ({ error }) => { throw error; } });
      let text = '';
      for await (const piece of answer.textStream) text += piece;
      assert.ok(text);
      assert.equal(await answer.finishReason, 'stop');
    });
  }

  test(`tools (${gateway.name})`, async () => {
    const called = [];
    const get_weather = tool({
      inputSchema: z.object({ place: z.string().optional() }),
      execute: async (input) => { called.push(input); return 'sunny'; },
    });
    await generateText({ model: kinds.chat, ...once, tools: { get_weather }, toolChoice: 'required', stopWhen: stepCountIs(1) });
    assert.equal(called.length, 1);
  });

  test(`embedMany (${gateway.name})`, async () => {
    const embedding = provider(gateway).embedding(`${gateway.provider}/text-embedding-3-small`);
    const { embeddings } = await embedMany({ model: embedding, values: ['a', 'b'], maxRetries: 0 });
    assert.equal(embeddings.length, 2);
    assert.ok(embeddings[0].length > 0);
  });
}

test('abort in mid-stream', async () => {
  await waitOpen(0, 5000);
  const leaving = new AbortController();
  const answer = streamText({
    model: provider(tcp).chat('openai/mock-bench-stream-10000-10'), ...once,
    abortSignal: leaving.signal, onError: () => {},
  });
  for await (const _ of answer.textStream) break;
  leaving.abort();
  assert.ok((await waitOpen(0, 1000)) < 1000);
});
