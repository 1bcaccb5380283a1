// With componentize-js: the events of a service worker.

const encoder = new TextEncoder();

function ticks() {
  let number = 0;
  return new ReadableStream({
    async pull(controller) {
      if (number === 5) {
        controller.close();
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
      controller.enqueue(encoder.encode(`tick ${number}\n`));
      number += 1;
    },
  });
}

function answer(request) {
  switch (new URL(request.url).pathname) {
    case '/':
      return new Response('hello from javascript');
    case '/echo':
      return new Response(request.body);
    case '/stream':
      return new Response(ticks());
    default:
      return new Response(null, { status: 404 });
  }
}

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));
