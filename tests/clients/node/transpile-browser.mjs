// node transpile-browser.mjs URL: a component with React and Emotion, transpiled by the house, in a browser.

import { createServer } from 'node:http';
import { build } from 'esbuild';
import { withPage } from './browser.mjs';

const [url] = process.argv.slice(2);
const source = `
import { useState } from 'react';
import { createRoot } from 'react-dom/client';
import { css, keyframes } from '@emotion/react';

enum Step { One = 1, Ten = 10 }
interface Props { start: number; children?: React.ReactNode }

const blink = keyframes({ from: { opacity: 1 }, to: { opacity: 0.99 } });

function Counter({ start, children }: Props) {
  const [count, setCount] = useState<number>(start satisfies number);
  return (
    <>
      <h1 css={css({ color: 'rgb(1, 2, 3)', animation: \`\${blink} 1s\` })}>{children}: {count}</h1>
      <button css={{ padding: 7 }} onClick={() => setCount((n) => n + Step.Ten)}>more</button>
    </>
  );
}

createRoot(document.getElementById('root')!).render(<Counter start={Step.One}>Count</Counter>);
`;

const answer = await fetch(`${url}/transpile?filename=counter.tsx`, { method: 'POST', body: source });
if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
const bundle = await build({
  stdin: { contents: await answer.text(), resolveDir: import.meta.dirname, loader: 'js' },
  bundle: true,
  write: false,
  format: 'esm',
  preserveSymlinks: true,
  define: { 'process.env.NODE_ENV': '"development"' },
});
const page = '<!doctype html><title>Counter</title><link rel="icon" href="data:,"><div id="root"></div><script type="module" src="/app.js"></script>';
const server = createServer((request, response) => {
  const script = request.url === '/app.js';
  response.setHeader('content-type', script ? 'text/javascript' : 'text/html');
  response.end(script ? bundle.outputFiles[0].text : page);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
try {
  const found = await withPage(async (page, wrong) => {
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    await page.waitForSelector('h1');
    await page.click('button');
    await page.waitForFunction(() => document.querySelector('h1').textContent === 'Count: 11');
    const style = await page.$eval('h1', (h1) => getComputedStyle(h1).color);
    const padding = await page.$eval('button', (button) => getComputedStyle(button).paddingTop);
    return { style, padding, wrong };
  });
  console.log(JSON.stringify(found));
} finally {
  server.close();
}
