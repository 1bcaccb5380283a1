// The playground: one room, its code in an editor, and what the code does beside it.
//
// The code is the room's Yjs document; this page keeps it in the browser as well, so that it opens and can be edited
// without a connection. What the code does runs in a frame that has no origin.
import { basicSetup } from "codemirror";
import { indentWithTab } from "@codemirror/commands";
import { javascript } from "@codemirror/lang-javascript";
import { lintGutter, setDiagnostics } from "@codemirror/lint";
import { Compartment, EditorState } from "@codemirror/state";
import { oneDark } from "@codemirror/theme-one-dark";
import { EditorView, keymap } from "@codemirror/view";
import { IndexeddbPersistence } from "y-indexeddb";
import { yCollab, yUndoManagerKeymap } from "y-codemirror.next";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";

const byId = (id) => document.getElementById(id);
const room = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const base = `/live/${encodeURIComponent(room)}`;
const sockets = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${base}`;
document.title = `${room} – playground`;
byId("room").textContent = room;

// So that this page opens without a connection, once it has been here.
navigator.serviceWorker?.register("/live/sw.js").catch(() => {});

let noted;
const note = (text) => {
  byId("note").textContent = text;
  clearTimeout(noted);
  noted = setTimeout(() => { byId("note").textContent = ""; }, 4000);
};

// The document, from the browser first and then from the room.
const doc = new Y.Doc();
const text = doc.getText("code");
const kept = new IndexeddbPersistence(`live/${room}`, doc);
const provider = new WebsocketProvider(sockets, "yjs", doc);
const undoManager = new Y.UndoManager(text);

// Who is here.
const hue = Math.floor((doc.clientID * 137.5) % 360);
const name = byId("name");
name.value = localStorage.getItem("live/name") ?? `guest ${doc.clientID % 1000}`;
const introduce = () => {
  localStorage.setItem("live/name", name.value);
  provider.awareness.setLocalStateField("user", {
    name: name.value || "anonymous",
    color: `hsl(${hue} 70% 45%)`,
    colorLight: `hsl(${hue} 70% 45% / 0.25)`,
  });
};
name.addEventListener("change", introduce);
introduce();
const showPeople = () => {
  const people = [...provider.awareness.getStates().values()].filter((state) => state.user);
  byId("people").replaceChildren(
    ...people.map(({ user }) => {
      const item = document.createElement("li");
      item.textContent = user.name;
      item.style.borderColor = CSS.supports("color", user.color) ? user.color : "gray";
      return item;
    }),
  );
};
provider.awareness.on("change", showPeople);
showPeople();

const state = byId("state");
let failed = false;
const showState = () => {
  const connected = provider.wsconnected && provider.synced;
  failed = failed && !connected;
  if (connected) state.textContent = "connected";
  else if (provider.wsconnected) state.textContent = "catching up";
  else state.textContent = failed ? "offline: edits are kept here" : "connecting";
  state.classList.toggle("connected", connected);
};
for (const event of ["status", "sync"]) provider.on(event, showState);
for (const event of ["connection-close", "connection-error"]) {
  provider.on(event, () => {
    failed = true;
    showState();
  });
}

// The editor.
const theme = new Compartment();
const dark = matchMedia("(prefers-color-scheme: dark)");
const look = () => (dark.matches ? oneDark : []);
const writable = new Compartment();
const view = new EditorView({
  state: EditorState.create({
    doc: text.toString(),
    extensions: [
      keymap.of([
        ...yUndoManagerKeymap,
        indentWithTab,
        // Whoever saves by habit has a version to come back to.
        { key: "Mod-s", preventDefault: true, run: () => { keep(); return true; } },
      ]),
      basicSetup,
      javascript({ typescript: true, jsx: true }),
      lintGutter(),
      EditorView.lineWrapping,
      theme.of(look()),
      writable.of([]),
      yCollab(text, provider.awareness, { undoManager }),
    ],
  }),
});
// Before the bar that says what is wrong.
byId("editor").prepend(view.dom);
dark.addEventListener("change", () => view.dispatch({ effects: theme.reconfigure(look()) }));
const mayWrite = (may) => {
  byId("reader").hidden = may;
  byId("keep").disabled = !may;
  // Who may only read can still walk through the code.
  const reading = [EditorState.readOnly.of(true), EditorView.editable.of(false), EditorView.contentAttributes.of({ tabindex: "0" })];
  view.dispatch({ effects: writable.reconfigure(may ? [] : reading) });
};

// What is wrong with the code, at the line where it is.
const showErrors = (errors) => {
  const { doc: code } = view.state;
  const diagnostics = errors.map(({ line = 1, column = 1, length = 1, message }) => {
    const at = code.line(Math.min(Math.max(line, 1), code.lines));
    const from = Math.min(at.from + Math.max(column - 1, 0), at.to);
    return { from, to: Math.min(from + Math.max(length, 1), code.length), severity: "error", message };
  });
  view.dispatch(setDiagnostics(view.state, diagnostics));
  const [first] = errors;
  const bar = byId("problems");
  bar.hidden = !first;
  if (!first) return;
  bar.textContent = `${first.line ?? 1}:${first.column ?? 1} ${first.message}${errors.length > 1 ? ` (and ${errors.length - 1} more)` : ""}`;
  bar.onclick = () => {
    view.dispatch({ selection: { anchor: diagnostics[0].from }, scrollIntoView: true });
    view.focus();
  };
};

// The page: loaded anew as soon as there is other JavaScript, HTML or CSS.
const page = byId("page");
let hash = "";
const load = (next) => {
  if (next === hash) return;
  hash = next;
  page.src = `${base}/embed?hash=${encodeURIComponent(next)}`;
};
let pause = 500;
const listen = () => {
  const socket = new WebSocket(`${sockets}/websocket`);
  socket.onmessage = ({ data }) => {
    pause = 500;
    const message = JSON.parse(data);
    if (message.type === "handshake") {
      mayWrite(message.mayWrite);
      load(message.hash);
      fetch(`${base}/errors`)
        .then((answer) => answer.json())
        .then(({ errors }) => showErrors(errors))
        .catch(() => {});
    } else if (message.type === "access") {
      mayWrite(message.mayWrite);
    } else if (message.type === "errors") {
      showErrors(message.errors);
    } else if (message.delta && ["transpiled", "html", "css"].some((field) => field in message.delta)) {
      load(message.hashCode);
    }
  };
  socket.onclose = () => {
    setTimeout(listen, pause * (0.5 + Math.random()));
    pause = Math.min(pause * 2, 20_000);
  };
};
listen();

// History.
const dialog = byId("versions");
// None: it was not done, and that was said.
const post = async (path, body = {}) => {
  try {
    const answer = await fetch(`${base}/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const told = await answer.json();
    if (answer.ok) return told;
    note(told.error);
  } catch {
    note("The house can't be reached at the moment.");
  }
  return undefined;
};
const keep = async () => {
  const version = await post("versions");
  if (version) note(`Version ${version.number} is made. Edits are kept without that, too.`);
};
const fill = async () => {
  const read = async (path) => (await fetch(`${base}/${path}`)).json();
  const [{ versions }, { history }] = await Promise.all([read("versions"), read("history")]);
  const entries = [
    ...versions.map((entry) => ({ ...entry, path: `version/${entry.number}`, title: `Version ${entry.number} ${entry.message ?? ""}` })),
    ...history.map((entry) => ({ ...entry, path: `history/${entry.number}`, title: "Saved by itself" })),
  ].sort((a, b) => b.at - a.at);
  dialog.querySelector("ul").replaceChildren(
    ...entries.map((entry) => {
      const item = document.createElement("li");
      const label = document.createElement("span");
      label.textContent = `${entry.title} · ${new Date(entry.at).toLocaleString()}`;
      const restore = document.createElement("button");
      restore.type = "button";
      restore.textContent = "Restore";
      restore.onclick = async () => {
        if (await post(`${entry.path}/restore`)) dialog.close();
      };
      item.append(label, restore);
      return item;
    }),
  );
};
const refill = () => fill().then(() => true, () => note("The house can't be reached at the moment."));
byId("history").onclick = async () => {
  if (await refill()) dialog.showModal();
};
byId("keep").onclick = async () => {
  await keep();
  await refill();
};

byId("share").onclick = async () => {
  const link = `${location.origin}${base}`;
  try {
    await navigator.clipboard.writeText(link);
    note(`Copied: ${link}`);
  } catch {
    // Only pages that came over TLS, or from this machine, may write there.
    note(link);
  }
};
byId("switch").onclick = () => {
  const shown = document.querySelector("main").classList.toggle("shows-preview");
  byId("switch").textContent = shown ? "Code" : "Preview";
};
kept.whenSynced.then(showState);
