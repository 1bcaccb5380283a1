"""WebSockets over HTTP/2 (RFC 8441), by prior knowledge, with h2 and wsproto.

Arguments: host, port, path, and what the case is about. Opens two WebSockets in one connection, beside a plain
request, and prints what it saw as lines of `name value`.
"""

import socket
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

HOST, PORT, PATH = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Client:
    """One HTTP/2 connection; streams gather what comes for them."""

    def __init__(self):
        self.socket = socket.create_connection((HOST, PORT), timeout=30)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.h2.initiate_connection()
        self.status, self.fields, self.data, self.ended = {}, {}, {}, set()
        self.flush()
        while h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL not in self.h2.remote_settings:
            self.pump()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def pump(self):
        """Reads once."""
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit("the house closed the connection")
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                fields = dict(event.headers)
                self.status[event.stream_id] = int(fields[":status"])
                self.fields[event.stream_id] = fields
            elif isinstance(event, h2.events.DataReceived):
                self.data.setdefault(event.stream_id, bytearray()).extend(event.data)
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                raise SystemExit(f"GOAWAY {event.error_code}")
        self.flush()

    def open(self, path, fields=(), method="CONNECT", protocol="websocket"):
        stream = self.h2.get_next_available_stream_id()
        head = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", f"{HOST}:{PORT}"),
        ]
        if protocol:
            head.append((":protocol", protocol))
            if not any(name == "sec-websocket-version" for name, _ in fields):
                head.append(("sec-websocket-version", "13"))
        self.h2.send_headers(stream, head + list(fields), end_stream=protocol is None)
        self.flush()
        while stream not in self.status and stream not in self.ended:
            self.pump()
        return stream

    def send(self, stream, data):
        """Sends in pieces as large as the windows allow."""
        view = memoryview(data)
        while view:
            room = min(
                self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size
            )
            if room == 0:
                self.pump()
                continue
            self.h2.send_data(stream, bytes(view[:room]))
            self.flush()
            view = view[room:]


class WebSocket:
    def __init__(self, client, path, fields=()):
        self.client = client
        self.stream = client.open(path, fields)
        self.status = client.status.get(self.stream)
        self.web = Connection(ConnectionType.CLIENT)

    def say(self, event):
        self.client.send(self.stream, self.web.send(event))

    def next(self):
        """The next message, put together from its frames."""
        parts = []
        while True:
            for event in self.web.events():
                if isinstance(event, Ping):
                    self.say(event.response())
                elif isinstance(event, Pong):
                    return "pong"
                elif isinstance(event, CloseConnection):
                    return event.code
                else:
                    parts.append(event.data)
                    if event.message_finished:
                        return parts[0][:0].join(parts)
            while not self.client.data.get(self.stream):
                if self.stream in self.client.ended:
                    return "end"
                self.client.pump()
            data = bytes(self.client.data.pop(self.stream))
            self.web.receive_data(data)


client = Client()
one = WebSocket(client, PATH + "one", [("sec-websocket-protocol", "v1, v2")])
two = WebSocket(client, PATH + "two")
print("status", one.status, two.status)
print("accept", "sec-websocket-accept" in client.fields[one.stream])

# Both at once, and many messages each: none goes to the other.
for n in range(50):
    one.say(TextMessage(data=f"echo one {n}"))
    two.say(TextMessage(data=f"echo two {n}"))
print("order", [one.next() for _ in range(50)] == [f"one {n}" for n in range(50)])
print("order", [two.next() for _ in range(50)] == [f"two {n}" for n in range(50)])

# More than a window, there and back.
large = "x" * 900_000
one.say(TextMessage(data="echo " + large))
print("large", one.next() == large)
one.say(BytesMessage(data=b"\x02\x03"))
print("binary", one.next())
one.say(Ping(payload=b"there"))
print("ping", one.next())

# A plain request beside them.
plain = client.open(PATH + "one?events", method="GET", protocol=None)
while plain not in client.ended:
    client.pump()
print("plain", client.status[plain])

# What must hold before the 200.
for name, fields in [
    ("origin", [("origin", "http://evil.example.com")]),
    ("version", [("sec-websocket-version", "8")]),
]:
    print(name, client.status[client.open(PATH + "one", fields)])
print("name", client.status[client.open(PATH + "%00")])
print("nowhere", client.status[client.open("/nowhere/one")])
other = client.open(PATH + "one", protocol="connect-udp")
print("protocol", client.status.get(other, 0))

# The room closes one; the other stays.
two.say(TextMessage(data="close 4000 enough"))
print("closed", two.next())
one.say(TextMessage(data="echo still here"))
print("other", one.next())
one.say(CloseConnection(code=1000))
print("goodbye", one.next())

# A stream that is reset is a client that went away; the connection stays.
three = WebSocket(client, PATH + "three?gone")
client.h2.reset_stream(three.stream)
client.flush()
four = WebSocket(client, PATH + "four")
four.say(TextMessage(data="echo fine"))
print("reset", four.next())
