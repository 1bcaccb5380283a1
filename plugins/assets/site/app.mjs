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
document.documentElement.dataset.ready = 'true';
