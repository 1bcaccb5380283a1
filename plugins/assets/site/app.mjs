const began = performance.now();
const { swVersion } = await (await fetch('/swVersion.json')).json();
document.querySelector('#hash').textContent = swVersion;
document.querySelector('#time').textContent = `${(performance.now() - began).toFixed(1)} ms`;

const manifest = await (await fetch('/ASSET_MANIFEST')).json();
const row = ([path, name]) => {
  const tr = document.createElement('tr');
  for (const target of [path, name]) {
    const link = document.createElement('a');
    link.href = '/' + target.split('/').map(encodeURIComponent).join('/');
    link.textContent = target;
    tr.insertCell().append(link);
  }
  return tr;
};
document.querySelector('#files').append(...Object.entries(manifest).map(row));

// Written by `cargo xtask run`, and by nobody else: a site says what its operator wants it to say.
if ('house.json' in manifest) {
  const { plugins } = await (await fetch('/house.json')).json();
  const list = document.querySelector('#plugins');
  for (const { name, about, routes } of plugins) {
    const term = document.createElement('dt');
    term.textContent = name;
    const details = document.createElement('dd');
    details.textContent = `${about} `;
    for (const route of routes) {
      const code = document.createElement('code');
      code.textContent = route;
      details.append(code, ' ');
    }
    list.append(term, details);
  }
  document.querySelector('#house').hidden = false;
  const has = (route) => plugins.some(({ routes }) => routes.includes(route));
  document.querySelector('#rooms').hidden = !(has('/api/room') && has('/live/{room}'));
}
document.querySelector('#new-room').addEventListener('click', async () => {
  const answer = await fetch('/api/room', { method: 'POST' }).catch(() => undefined);
  if (answer?.ok) location.href = `/live/${await answer.text()}`;
  else document.querySelector('#no-room').textContent = 'The house gives no room at the moment.';
});
document.documentElement.dataset.ready = 'true';
