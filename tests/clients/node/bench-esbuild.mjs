// node bench-esbuild.mjs ADDRESS PACKAGES esbuild|esbuild-wasm: the smallest server that transpiles with esbuild, by its
// service, with the options that the house has by itself.

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [address, packages, name] = process.argv.slice(2);
const { transform } = createRequire(join(packages, 'x.js'))(name);
const [host, port] = address.split(':');
const options = {
  format: 'esm', platform: 'browser', target: 'es2024', keepNames: true, charset: 'utf8', jsx: 'automatic',
  jsxImportSource: '@emotion/react',
};

createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const loader = new URL(request.url, 'http://x').searchParams.get('loader') ?? 'tsx';
  const { code } = await transform(Buffer.concat(pieces).toString(), { ...options, loader });
  response.writeHead(200, { 'content-type': 'text/javascript', 'content-length': Buffer.byteLength(code) });
  response.end(code);
}).listen(Number(port), host);
