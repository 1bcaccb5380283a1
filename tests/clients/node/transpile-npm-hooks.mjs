// Finds what compiled sources import: their neighbours, with whatever extension the source gave them, and the packages
// that they depend on.

import { existsSync, statSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';

let sources;
let itself;

export async function initialize(data) {
  sources = `${data.sources}/x.js`;
  itself = `${data.sources}/node_modules/${data.name}/x.js`;
}

export async function resolve(specifier, context, next) {
  if (specifier.startsWith('.')) {
    const path = fileURLToPath(new URL(specifier, context.parentURL));
    const bare = path.replace(/\.(ts|tsx|js|mjs)$/, '');
    for (const candidate of [`${bare}.js`, `${path}.js`, `${path}/index.js`, path]) {
      if (existsSync(candidate) && statSync(candidate).isFile()) {
        return { url: pathToFileURL(candidate).href, shortCircuit: true, format: 'module' };
      }
    }
  } else if (specifier.startsWith('#')) {
    // The package's own names for parts of it: its package.json says where they are, as they were built.
    return next(specifier, { ...context, parentURL: itself });
  } else if (!specifier.startsWith('node:') && !specifier.includes('://')) {
    return next(specifier, { ...context, parentURL: sources });
  }
  return next(specifier, context);
}
