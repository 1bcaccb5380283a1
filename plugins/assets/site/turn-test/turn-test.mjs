// Two peers in one page that may use relays only: what a call between strangers needs, without the strangers.

const PATIENCE = 30_000;
const PINGS = 20;
const SECONDS = 2;
const PIECE = new Uint8Array(16 * 1024);
const MOST_WAITING = 1 << 20;

const element = (id) => document.getElementById(id);
const row = (table, ...cells) => {
  const line = element(table).insertRow();
  for (const cell of cells) line.insertCell().textContent = cell;
};
const within = (promise, what) =>
  Promise.race([
    promise,
    new Promise((_, fail) => setTimeout(() => fail(new Error(`${what} took too long`)), PATIENCE)),
  ]);

async function servers(token, transport) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch('/api/my-turn', { headers });
  if (!answer.ok) {
    const hint = answer.status === 401 ? ': give a token' : '';
    throw new Error(`/api/my-turn answered ${answer.status}${hint}`);
  }
  const { iceServers } = await answer.json();
  const wanted = (url) =>
    transport === 'any' ||
    (transport === 'tls' ? url.startsWith('turns:') : url.startsWith('turn:') && url.endsWith(transport));
  const chosen = iceServers
    .map((server) => ({ ...server, urls: [server.urls].flat().filter(wanted) }))
    .filter((server) => server.urls.length > 0);
  if (chosen.length === 0) throw new Error(`the house names no relay by ${transport}`);
  return chosen;
}

function connect(iceServers) {
  const make = () => new RTCPeerConnection({ iceServers, iceTransportPolicy: 'relay' });
  const peers = { one: make(), other: make() };
  const link = (from, to) => {
    peers[from].onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return;
      row('candidates', from, candidate.candidate);
      peers[to].addIceCandidate(candidate).catch((error) => console.warn(String(error)));
    };
  };
  link('one', 'other');
  link('other', 'one');
  return peers;
}

async function shake({ one, other }) {
  const here = one.createDataChannel('test');
  here.binaryType = 'arraybuffer';
  const there = new Promise((resolve) => {
    other.ondatachannel = ({ channel }) => {
      channel.binaryType = 'arraybuffer';
      resolve(channel);
    };
  });
  await one.setLocalDescription();
  await other.setRemoteDescription(one.localDescription);
  await other.setLocalDescription();
  await one.setRemoteDescription(other.localDescription);
  if (here.readyState !== 'open') await new Promise((open) => (here.onopen = open));
  return [here, await there];
}

async function roundTrip(here, there) {
  there.onmessage = ({ data }) => there.send(data);
  const times = [];
  for (let number = 0; number < PINGS; number += 1) {
    const answered = new Promise((resolve) => (here.onmessage = ({ data }) => resolve(data)));
    const began = performance.now();
    here.send(`ping ${number}`);
    if ((await answered) !== `ping ${number}`) throw new Error('another answer came back');
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  return times[PINGS / 2];
}

async function throughput(here, there) {
  let received = 0;
  there.onmessage = ({ data }) => (received += data.byteLength);
  here.bufferedAmountLowThreshold = MOST_WAITING / 2;
  const began = performance.now();
  while (performance.now() - began < SECONDS * 1000) {
    if (here.bufferedAmount < MOST_WAITING) here.send(PIECE);
    else await new Promise((low) => (here.onbufferedamountlow = low));
  }
  return (received * 8) / (performance.now() - began) / 1000;
}

async function used(peer) {
  const stats = [...(await peer.getStats()).values()];
  const transport = stats.find(({ type }) => type === 'transport');
  const pair = stats.find(({ id }) => id === transport?.selectedCandidatePairId);
  const find = (id) => stats.find((entry) => entry.id === id);
  const [local, remote] = [find(pair?.localCandidateId), find(pair?.remoteCandidateId)];
  return { local: local?.candidateType, remote: remote?.candidateType, by: local?.relayProtocol };
}

async function run() {
  element('results').replaceChildren();
  element('candidates').replaceChildren();
  const transport = element('transport').value;
  let peers;
  try {
    element('status').textContent = 'Asking for credentials…';
    peers = connect(await servers(element('token').value.trim(), transport));
    element('status').textContent = 'Connecting…';
    const [here, there] = await within(shake(peers), 'connecting');
    element('status').textContent = 'Measuring…';
    const rtt = await within(roundTrip(here, there), 'the round trip');
    const rate = await within(throughput(here, there), 'the throughput');
    const found = await used(peers.one);
    row('results', 'Candidate types', `${found.local} to ${found.remote}`);
    row('results', 'To the relay by', found.by ?? 'unknown');
    row('results', 'Round trip, median', `${rtt.toFixed(1)} ms`);
    row('results', 'Throughput', `${rate.toFixed(1)} Mbit/s`);
    element('status').textContent = 'It works.';
    Object.assign(document.documentElement.dataset, { result: JSON.stringify({ ...found, rtt, rate }) });
  } catch (error) {
    element('status').textContent = `It does not work: ${error.message}.`;
    document.documentElement.dataset.result = JSON.stringify({ error: error.message });
  } finally {
    peers?.one.close();
    peers?.other.close();
  }
}

element('form').addEventListener('submit', (event) => {
  event.preventDefault();
  run();
});
document.documentElement.dataset.ready = 'true';
