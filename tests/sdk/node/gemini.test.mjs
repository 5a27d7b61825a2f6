// The official Gemini client for Node, unmodified, through keyway.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError, GoogleGenAI } from '@google/genai';
import { tcp } from './gateways.mjs';

const client = (baseUrl = tcp.origin) => new GoogleGenAI({ apiKey: 'key-of-the-caller', httpOptions: { baseUrl } });
const asked = { model: 'gemini-x', contents: 'hello there' };

test('content', async () => {
  const answer = await client().models.generateContent(asked);
  assert.equal(answer.text, 'mock: hello there');
});

test('content under the prefix', async () => {
  const answer = await client(`${tcp.origin}/genai`).models.generateContent({ ...asked, model: 'gemini/gemini-x' });
  assert.equal(answer.modelVersion, 'gemini-x');
});

test('stream', async () => {
  let text = '';
  for await (const chunk of await client().models.generateContentStream(asked)) text += chunk.text;
  assert.equal(text, 'mock: hello there');
});

test('embeddings', async () => {
  const answer = await client().models.embedContent({ model: 'gemini/embedding-x', contents: ['a', 'b'] });
  assert.equal(answer.embeddings.length, 2);
});

test('models', async () => {
  const names = [];
  for await (const model of await client().models.list()) names.push(model.name);
  assert.ok(names.includes('models/mock-small'));
});

test('errors have their status', async () => {
  for (const [model, status] of [['mock-404', 404], ['openai/gpt-x', 400], ['@nothing', 404]]) {
    await assert.rejects(client().models.generateContent({ ...asked, model }), (error) => {
      assert.ok(error instanceof ApiError);
      assert.equal(error.status, status, model);
      return true;
    });
  }
});
