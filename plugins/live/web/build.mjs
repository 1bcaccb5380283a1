// Bundles the playground into the folder that is given.
import { build } from "esbuild";
import { copyFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [out] = process.argv.slice(2);
// A service worker is for the paths beside it: for the rooms.
for (const [name, place] of [["main.js", "playground"], ["main.css", "playground"], ["sw.js", "live"]]) {
  await mkdir(join(out, place), { recursive: true });
  await build({
    entryPoints: [join(here, "src", name)],
    outfile: join(out, place, name),
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    legalComments: "linked",
    preserveSymlinks: true,
    nodePaths: [join(process.cwd(), "node_modules")],
  });
}
await copyFile(join(here, "index.html"), join(out, "index.html"));
