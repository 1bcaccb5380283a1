// node componentize.mjs SOURCE.js WIT-FOLDER OUTPUT.wasm: a component out of JavaScript, for the world `guest`.

import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [sourcePath, witPath, output] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath,
  witPath,
  worldName: 'guest',
  enableAot: false,
});
await writeFile(output, component);
