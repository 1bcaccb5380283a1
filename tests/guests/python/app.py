"""With componentize-py: asyncio on top of wasi:io/poll."""

import asyncio

from componentize_py_types import Ok
from poll_loop import PollLoop, Sink, Stream, register
from wit_world import exports
from wit_world.imports import monotonic_clock
from wit_world.imports.types import Fields, OutgoingResponse, ResponseOutparam

TICK = 50_000_000


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        loop = PollLoop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(answer(loop, request, response_out))


async def answer(loop, request, response_out):
    path = request.path_with_query()
    response = OutgoingResponse(Fields())
    if path not in ("/", "/echo", "/stream"):
        response.set_status_code(404)
    sink = Sink(response.body())
    ResponseOutparam.set(response_out, Ok(response))
    if path == "/":
        await sink.send(b"hello from python")
    elif path == "/echo":
        body = Stream(request.consume())
        while (chunk := await body.next()) is not None:
            await sink.send(chunk)
    elif path == "/stream":
        for number in range(5):
            await register(loop, monotonic_clock.subscribe_duration(TICK))
            await sink.send(f"tick {number}\n".encode())
    sink.close()
