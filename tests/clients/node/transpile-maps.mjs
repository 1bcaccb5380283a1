// node transpile-maps.mjs URL: where source maps say that names come from. Prints the count and what is wrong.

import { SourceMapConsumer } from 'source-map';

const [url] = process.argv.slice(2);
const source = `// a comment
enum Kind { first = 1, second = 2 }
interface Gone { vanished: string }
export class Shape<T extends Gone> {
  #hidden = 1;
  constructor(public given: T, private added: number) {}
  compute(argument: number): number {
    const interim = argument + this.added; return interim * Kind.second;
  }
}
export const element = (properties: { label: string }) => <p title={properties.label}>größe {properties.label.length}</p>;
export async function waiting() { using resource = acquire(); return resource?.value ?? fallback; }
declare function acquire(): any; declare const fallback: number;
`;
const places = (text, name) => {
  const found = [];
  text.split('\n').forEach((line, index) => {
    for (const match of line.matchAll(new RegExp(`(?<![\\w#$])${name}(?![\\w$])`, 'g'))) found.push({ line: index + 1, column: match.index });
  });
  return found;
};
let checked = 0;
const wrong = [];
for (const query of ['', '&target=es2020', '&minify=1', '&jsx=classic', '&importMap=1']) {
  const answer = await fetch(`${url}/transpile?filename=a.tsx&sourcemap=external${query}`, { method: 'POST', body: source });
  const { code, map } = await answer.json();
  await SourceMapConsumer.with(map, null, (consumer) => {
    if (map.sourcesContent[0] !== source) wrong.push(`${query}: the source is not in the map`);
    for (const name of ['Shape', 'compute', 'interim', 'argument', 'element', 'label', 'waiting', 'acquire', 'fallback', 'resource']) {
      const originals = places(source, name);
      for (const at of places(code, name)) {
        const original = consumer.originalPositionFor(at);
        if (original.line === null) continue;
        checked += 1;
        if (!originals.some((place) => place.line === original.line && place.column === original.column)) {
          wrong.push(`${query}: ${name} at ${at.line}:${at.column} is said to be from ${original.line}:${original.column}`);
        }
      }
    }
  });
}
console.log(JSON.stringify({ checked, wrong }));
