# turn.py JSON TRANSPORT...: two peers of aiortc that may use relays only, with the iceServers of JSON; prints what each
# transport's data channel brought back.

import asyncio
import json
import sys

from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)


async def talk(servers):
    configuration = RTCConfiguration(
        iceServers=servers, iceTransportPolicy=RTCIceTransportPolicy.RELAY
    )
    one, other = RTCPeerConnection(configuration), RTCPeerConnection(configuration)
    brought = asyncio.get_running_loop().create_future()
    channel = one.createDataChannel("test")

    @other.on("datachannel")
    def on_datachannel(there):
        there.on("message", lambda message: there.send("back: " + message))

    channel.on("open", lambda: channel.send("hello"))
    channel.on("message", lambda message: brought.done() or brought.set_result(message))

    await one.setLocalDescription(await one.createOffer())
    # The candidates are in the descriptions.
    await other.setRemoteDescription(described(one))
    await other.setLocalDescription(await other.createAnswer())
    await one.setRemoteDescription(described(other))
    answer = await asyncio.wait_for(brought, 60)
    candidates = [
        line
        for line in (one.localDescription.sdp + other.localDescription.sdp).splitlines()
        if line.startswith("a=candidate")
    ]
    await asyncio.gather(one.close(), other.close())
    return {"answer": answer, "candidates": candidates}


def described(peer):
    return RTCSessionDescription(peer.localDescription.sdp, peer.localDescription.type)


async def main():
    offered = json.loads(sys.argv[1])["iceServers"]
    found = {}
    for transport in sys.argv[2:]:
        servers = [
            RTCIceServer([url], server["username"], server["credential"])
            for server in offered
            if "username" in server
            for url in server["urls"]
            if url.endswith("transport=" + transport)
        ]
        found[transport] = await talk(servers)
    print(json.dumps(found))


asyncio.run(main())
