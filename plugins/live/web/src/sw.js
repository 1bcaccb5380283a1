// So that a room that was open once opens without a connection. It holds the page itself, its script and its styles;
// the code is kept by the page. What can be had from the house is never taken from here.
const SHELL = "playground";
const PAGE = "/live/";
const PARTS = ["/playground/main.js", "/playground/main.css"];

const isPage = ({ mode }, { pathname }) => mode === "navigate" && /^\/live\/[^/.]+$/.test(pathname);
const isPart = ({ method }, { pathname }) => method === "GET" && pathname.startsWith("/playground/");

// The page that starts this was loaded without it.
addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(hold());
});
addEventListener("activate", (event) => {
  event.waitUntil(clients.claim());
});
addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (url.origin !== location.origin) return;
  // All rooms have the same page.
  const key = isPage(event.request, url) ? PAGE : isPart(event.request, url) ? url.pathname : undefined;
  if (key) event.respondWith(answer(event, key));
});

async function hold() {
  const cache = await caches.open(SHELL);
  await cache.addAll(PARTS);
  const page = await fetch("/live/playground");
  if (!page.ok) throw new Error(`the page answers ${page.status}`);
  await cache.put(PAGE, page);
}

async function answer(event, key) {
  const cache = await caches.open(SHELL);
  try {
    const fresh = await fetch(event.request);
    if (fresh.ok) event.waitUntil(cache.put(key, fresh.clone()));
    // A house that is being started again is not there either.
    if (fresh.status < 500) return fresh;
    return (await cache.match(key)) ?? fresh;
  } catch (gone) {
    const kept = await cache.match(key);
    if (kept) return kept;
    throw gone;
  }
}
