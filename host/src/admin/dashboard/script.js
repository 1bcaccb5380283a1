
'use strict';
// Makes text and elements, never markup: what is shown comes from clients, too.
const EVERY = 2500;
const ROOMS_SHOWN = 50;
const ROUTES_SHOWN = 4;
const SURE_FOR = 4000;
const KEY = 'guesthouse-admin-token';
const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem(KEY) ?? '';
let before = null;
let timer = 0;
let round = 0;

class Refused extends Error {}

async function api(path, method = 'GET') {
  const response = await fetch(path, {
    method,
    headers: { authorization: `Bearer ${token}` },
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
  });
  if (response.status === 401) throw new Refused('The house does not take this token.');
  const body = await response.json();
  if (!response.ok) throw new Error(body?.error?.message ?? `The house answered ${response.status}.`);
  return body;
}

function element(name, text = '', kind = '') {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Rows of [text, class] or an element each. What has not changed stays, so that nothing jumps under a finger.
function fill(body, keys, rows, nothing) {
  const labels = [...body.closest('table').tHead.rows[0].cells].map((cell) => cell.textContent);
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const made = rows.map((cells, at) => {
    const row = old.get(keys[at]) ?? document.createElement('tr');
    row.dataset.key = keys[at];
    cells.forEach((cell, place) => {
      const at = row.cells[place] ?? row.appendChild(element('td'));
      at.dataset.label = labels[place] ?? '';
      if (cell instanceof Element) {
        if (!at.firstElementChild) at.replaceChildren(cell);
        return;
      }
      const [text, kind = ''] = cell;
      if (at.textContent !== String(text)) at.textContent = text;
      if (at.className !== kind) at.className = kind;
    });
    return row;
  });
  if (!made.length) {
    const row = document.createElement('tr');
    const cell = row.appendChild(element('td', nothing, 'empty'));
    cell.colSpan = labels.length;
    made.push(row);
  }
  // An element that is put in its own place loses the focus.
  const same = made.length === body.rows.length && made.every((row, at) => row === body.rows[at]);
  if (!same) body.replaceChildren(...made);
}

const number = (value) => (value >= 100 ? Math.round(value).toLocaleString('en') : String(Math.round(value * 10) / 10));
function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${number(value)} ${units[unit]}`;
}
function time(micros) {
  if (micros === null) return '–';
  if (micros === Infinity) return '> 10 s';
  return micros < 1000 ? `≤ ${micros} µs` : micros < 1e6 ? `≤ ${micros / 1000} ms` : `≤ ${micros / 1e6} s`;
}
const span = (seconds) => (seconds >= 120 ? `${Math.round(seconds / 60)} min` : `${seconds} s`);

// What happened between two looks.
function since(now, then, seconds) {
  const total = (answers) => Object.values(answers.statuses).reduce((sum, count) => sum + count, 0);
  const nothing = { statuses: {}, times: now.times.map(([bound]) => [bound, 0]) };
  const old = then && total(then) <= total(now) ? then : then ? nothing : now;
  const times = now.times.map(([bound, count], at) => [bound, count - old.times[at][1]]);
  const count = times.reduce((sum, [, count]) => sum + count, 0);
  const part = (share) => {
    let left = count * share;
    for (const [bound, count] of times) {
      left -= count;
      if (count && left <= 0) return bound ?? Infinity;
    }
    return null;
  };
  const failed = (answers) => answers.statuses['5xx'] ?? 0;
  return { times, rate: count / seconds, failed: (failed(now) - failed(old)) / seconds, p50: part(0.5), p99: part(0.99) };
}

function figure(name, value) {
  const box = document.createElement('div');
  box.append(element('dt', name), element('dd', value));
  return box;
}

function showPlugins(plugins, then, seconds) {
  const rows = plugins.map((plugin) => {
    const late = since(plugin.answers, then.get(plugin.name), seconds);
    const open = plugin.version && plugin.version.breaker.state !== 'closed';
    const state = open ? `breaker ${plugin.version.breaker.state}` : plugin.state;
    const kind = open || plugin.state === 'failed' ? 'bad' : plugin.state === 'serving' ? 'good' : 'warn';
    const more = plugin.routes.length - ROUTES_SHOWN;
    const routes = plugin.routes.slice(0, ROUTES_SHOWN).join('\n') + (more > 0 ? `\n+ ${more} more` : '');
    const failures = plugin.version?.failures ?? 0;
    return [
      [plugin.name], [plugin.message ? `${state}: ${plugin.message}` : state, `${kind} wide`],
      [`${plugin.number} · ${plugin.digest.slice(0, 8)}`], [routes || '–', 'wide'],
      [number(late.rate), 'n'], [number(late.failed), late.failed > 0 ? 'n bad' : 'n'],
      [time(late.p50), 'n'], [time(late.p99), 'n'],
      [plugin.version?.running ?? 0, 'n'], [plugin.version?.queued ?? 0, 'n'],
      [failures.toLocaleString('en'), failures > 0 ? 'n warn' : 'n'],
    ];
  });
  fill($('plugins'), plugins.map((plugin) => plugin.name), rows, 'No plugins.');
}

function showDraining(draining) {
  $('draining-section').hidden = !draining.length;
  const rows = draining.map((old) => [[old.plugin], [old.version], [old.running, 'n'], [span(old.for_seconds), 'n']]);
  fill($('draining'), draining.map((old) => `${old.plugin} ${old.version}`), rows, '');
}

function showRooms({ rooms, cursor }) {
  const order = (a, b) => b.sockets - a.sockets || b.events_per_second - a.events_per_second;
  const shown = [...rooms].sort(order).slice(0, ROOMS_SHOWN);
  const rows = shown.map((room) => [
    [room.name, 'wide'], [room.plugin], room.awake ? ['awake', 'good'] : ['asleep', 'quiet'],
    [room.sockets, 'n'], [number(room.events_per_second), 'n'], [bytes(room.bytes), 'n'],
  ]);
  fill($('rooms'), shown.map((room) => `${room.plugin} ${room.name}`), rows, 'No rooms.');
  const all = cursor === null ? `${rooms.length}` : `the first ${rooms.length}`;
  $('rooms-note').textContent = rooms.length > shown.length ? `The busiest ${shown.length} of ${all} rooms.` : '';
}

// Asks once more before it ends anything.
function endButton(id) {
  const button = element('button', 'End', 'end');
  button.type = 'button';
  button.setAttribute('aria-label', `End allocation ${id}`);
  let calm = 0;
  button.addEventListener('click', async () => {
    if (!button.classList.contains('sure')) {
      button.textContent = 'Really?';
      button.classList.add('sure');
      calm = setTimeout(() => {
        button.textContent = 'End';
        button.classList.remove('sure');
      }, SURE_FOR);
      return;
    }
    clearTimeout(calm);
    button.disabled = true;
    try {
      await api(`/v1/turn/allocations/${encodeURIComponent(id)}`, 'DELETE');
    } catch (error) {
      trouble(error);
    }
    look();
  });
  return button;
}

function showRelay(relay, allocations) {
  $('relay-table').parentElement.hidden = !relay;
  if (!relay) {
    $('relay-note').textContent = 'This house has no relay.';
    return;
  }
  const sum = (key) => Object.values(relay.traffic).reduce((all, traffic) => all + traffic[key], 0);
  const { counters } = relay;
  $('relay-note').textContent =
    `${relay.listeners.join(' · ')} — ${relay.connections} connections, ` +
    `${bytes(sum('bytes_to_peers'))} to peers, ${bytes(sum('bytes_from_peers'))} from peers; refused: ` +
    `${counters.bad_credentials + counters.expired_credentials} credentials, ` +
    `${counters.denied_peers + counters.denied_packets} denied peers, ` +
    `${counters.refused_user_quota + counters.refused_capacity + counters.refused_peer_quota} over a quota`;
  const rows = allocations.map((one) => [
    [one.id], [one.user, 'wide'], [one.transport], [one.client], [one.relay], [one.peers.join('\n') || '–', 'wide'],
    [bytes(one.bytes_to_peers), 'n'], [bytes(one.bytes_from_peers), 'n'], [span(one.remaining), 'n'], endButton(one.id),
  ]);
  fill($('allocations'), allocations.map((one) => String(one.id)), rows, 'No allocations.');
}

function trouble(error) {
  $('trouble').textContent = error instanceof TypeError ? 'The house does not answer.' : error.message;
  $('trouble').hidden = false;
}

function ask(why = '') {
  clearTimeout(timer);
  round += 1;
  token = '';
  before = null;
  sessionStorage.removeItem(KEY);
  $('refused').textContent = why;
  $('house').hidden = $('leave').hidden = true;
  $('version').textContent = '';
  for (const body of document.querySelectorAll('tbody')) body.replaceChildren();
  $('figures').replaceChildren();
  $('enter').hidden = false;
  $('token').value = '';
  $('token').focus();
}

async function look() {
  clearTimeout(timer);
  const own = ++round;
  try {
    const [health, { plugins }, rooms] = await Promise.all([api('/v1/health'), api('/v1/plugins'), api('/v1/rooms')]);
    const [relay, { allocations }] = health.turn
      ? await Promise.all([api('/v1/turn'), api('/v1/turn/allocations')])
      : [null, { allocations: [] }];
    // Another look has begun meanwhile, or the token has gone.
    if (own !== round) return;
    sessionStorage.setItem(KEY, token);
    $('enter').hidden = $('trouble').hidden = true;
    $('house').hidden = $('leave').hidden = false;
    $('version').textContent = `${health.version} · deployment ${health.deployment.sequence}`;

    const at = performance.now();
    const seconds = before ? (at - before.at) / 1000 : 1;
    const then = before?.plugins ?? new Map();
    const all = [['', health.answers], ...plugins.map((plugin) => [plugin.name, plugin.answers])];
    const late = all.map(([name, answers]) => since(answers, then.get(name), seconds));
    const sum = (of) => late.reduce((all, one) => all + of(one), 0);
    const open = rooms.rooms.filter((room) => room.awake).length;
    $('figures').replaceChildren(
      figure('Requests/s', number(sum((one) => one.rate))),
      figure('5xx/s', number(sum((one) => one.failed))),
      figure('Connections', health.connections.toLocaleString('en')),
      figure('Rooms awake', `${open}${rooms.cursor === null ? '' : ' +'}`),
      figure('Room sockets', rooms.rooms.reduce((all, room) => all + room.sockets, 0).toLocaleString('en')),
      figure('Allocations', (health.turn?.allocations ?? 0).toLocaleString('en')),
    );
    showPlugins(plugins, then, seconds);
    showDraining(health.deployment.draining);
    showRooms(rooms);
    showRelay(relay, allocations);
    before = { at, plugins: new Map(all) };
  } catch (error) {
    if (own !== round) return;
    if (error instanceof Refused) return ask(error.message);
    $('enter').hidden = true;
    $('house').hidden = $('leave').hidden = false;
    trouble(error);
  }
  // Nobody looks at a page that is hidden.
  if (!document.hidden) timer = setTimeout(look, EVERY);
}

$('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  token = $('token').value.trim();
  if (token) look();
});
$('leave').addEventListener('click', () => ask());
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && token) look();
});
if (token) look();
else ask();
