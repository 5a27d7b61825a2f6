// The gateways that the tests call: started by tests/it/sdk.rs, found in the environment.

const need = (name) => process.env[name] ?? (() => { throw new Error(`${name} is not set`); })();

const origin = need('KEYWAY_TCP_URL');

export const tcp = { name: 'tcp', origin, url: `${origin}/v1`, provider: 'openai' };
export const embedded = { name: 'embedded', url: `${need('KEYWAY_EMBEDDED_URL')}/v1`, provider: 'mock' };
export const both = [tcp, embedded];

export const hello = [{ role: 'user', content: 'hello' }];

// How many streams are open at the mock upstream.
const open = async () => (await (await fetch(`${need('KEYWAY_MOCK_URL')}/__mock/open`)).json()).open;

// Waits until `count` are; returns the milliseconds that it took.
export const waitOpen = async (count, milliseconds) => {
  const started = performance.now();
  for (;;) {
    const now = await open();
    const waited = performance.now() - started;
    if (now === count) return waited;
    if (waited > milliseconds) throw new Error(`${now} streams open after ${waited.toFixed(0)} ms, not ${count}`);
    await new Promise((later) => setTimeout(later, 10));
  }
};
