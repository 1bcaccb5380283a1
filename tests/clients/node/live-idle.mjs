// One Yjs client that does nothing for a while: how often it connects.
import * as Y from "yjs";
import { WebsocketProvider } from "y-websocket";
import WebSocket from "ws";

let connected = 0;
const doc = new Y.Doc();
const provider = new WebsocketProvider(`${process.env.HOUSE.replace("http", "ws")}/live/lone`, "yjs", doc, {
  WebSocketPolyfill: WebSocket,
  disableBc: true,
});
provider.on("status", ({ status }) => { if (status === "connected") connected += 1; });
provider.awareness.setLocalStateField("user", { name: "lone" });
await new Promise((resolve) => setTimeout(resolve, Number(process.env.SECONDS ?? 40) * 1000));
console.log(`connected ${connected}`);
process.exit(0);
