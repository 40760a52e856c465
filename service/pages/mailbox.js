// Brings new mail in and opens mails without a reload. Every piece of the page comes from the server; without this
// script the same links work as links.
'use strict';

const WAIT_S = 10; // an API that is asked to stop waits for its answers
const MAX_PAUSE_MS = 15000;
const SETTLE_MS = 250; // many arrivals at once are one look at the list
const fresh = new Set();
let turn = 0;

const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const opened = () => one('#reader').dataset.open;

async function load(url) {
  const response = await fetch(url, { headers: { accept: 'text/html' } });
  if (!(response.headers.get('content-type') || '').startsWith('text/html')) throw new Error(String(response.status));
  return new DOMParser().parseFromString(await response.text(), 'text/html');
}

function ago(then) {
  const seconds = Math.max(0, Date.now() - then) / 1000;
  if (seconds < 60) return 'now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return new Date(then).toLocaleDateString('en', { day: 'numeric', month: 'short' });
}

// What the server cannot know: the clock and the choices made here.
function paint() {
  for (const time of all('[data-ms]')) time.textContent = ago(Number(time.dataset.ms));
  for (const time of all('[data-moment]')) {
    time.textContent = new Date(Number(time.dataset.moment)).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
  }
  for (const link of all('.mail')) {
    if (link.dataset.id === opened()) { fresh.delete(link.dataset.id); link.setAttribute('aria-current', 'page'); }
    else link.removeAttribute('aria-current');
    link.classList.toggle('is-fresh', fresh.has(link.dataset.id));
  }
  for (const name of ['width', 'scheme']) {
    for (const button of all(`button[data-${name}]`)) {
      button.setAttribute('aria-pressed', String(button.dataset[name] === document.body.dataset[name]));
    }
  }
  for (const hidden of all('.switches, [data-copy]')) hidden.hidden = false;
  const title = document.title.replace(/^\(\d+\) /, '');
  document.title = fresh.size ? `(${fresh.size}) ${title}` : title;
}

async function show(url, push) {
  const mine = ++turn;
  let next;
  try {
    next = await load(url);
  } catch {
    location.assign(url); // the browser says it better
    return;
  }
  if (mine !== turn) return;
  const active = document.activeElement;
  const view = active?.dataset?.view;
  const inList = Boolean(active?.closest('#list'));
  if (push) history.pushState(null, '', url);
  if (one('#list') && one('#list', next)) one('#reader').replaceWith(one('#reader', next));
  else one('#desk').replaceChildren(...one('#desk', next).children);
  one('#desk').className = one('#desk', next).className;
  document.title = next.title;
  paint();
  if (view) one(`[data-view="${view}"]`)?.focus();
  else if (!inList || !active.offsetParent) one('#reader').focus({ preventScroll: true });
}

async function renewList() {
  const next = await load('/mailbox');
  const list = one('#list', next);
  if (!list) return;
  const old = one('#list');
  const focused = old?.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
  if (!old) one('#desk').replaceChildren(...one('#desk', next).children);
  else {
    const top = old.scrollTop;
    old.replaceWith(list);
    list.scrollTop = top;
  }
  one('#desk').classList.remove('is-empty');
  if (focused) one(`#list a[href="${focused}"]`)?.focus({ preventScroll: true });
}

async function arrived(mail) {
  await pause(SETTLE_MS);
  const before = newest();
  await renewList();
  // A smaller number than before: the server has been emptied and counts anew.
  const seen = newest() < before ? 0 : before;
  for (const link of all('.mail')) if (Number(link.dataset.number) > seen) fresh.add(link.dataset.id);
  paint();
  one('#news').textContent = `New mail: ${mail.subject || 'no subject'}`;
  if (!opened()) await show(`/mailbox/${mail.id}`, true);
}

const newest = () => Number(one('#list')?.dataset.newest ?? 0);

function tell(away) {
  const state = one('#state');
  const text = away ? 'Reconnecting' : 'Live';
  if (state.textContent !== text || state.hidden) state.textContent = text;
  state.classList.toggle('is-away', away);
  state.hidden = false;
}

async function follow() {
  let wait = 0;
  tell(false);
  for (;;) {
    try {
      const seconds = wait ? 0 : WAIT_S; // after a failure, first find out quickly whether the server is back
      const response = await fetch(`/mailbox/wait?since=${newest()}&timeout=${seconds}`);
      const answer = await response.json();
      if (!response.ok && answer.code !== 'no_mail_yet') throw new Error(answer.code);
      tell(false);
      wait = 0;
      if (response.ok) await arrived(answer);
    } catch {
      tell(true);
      wait = Math.min(MAX_PAUSE_MS, wait * 2 || 1000);
      await pause(wait);
    }
  }
}

document.addEventListener('click', (event) => {
  if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest('a[data-swap]');
  if (link) {
    event.preventDefault();
    show(link.href, true);
    return;
  }
  const button = event.target.closest('button');
  if (button?.dataset.width) document.body.dataset.width = button.dataset.width;
  if (button?.dataset.scheme) document.body.dataset.scheme = button.dataset.scheme;
  if (button?.dataset.copy) {
    navigator.clipboard.writeText(one(`#${button.dataset.copy}`).textContent).then(() => { button.textContent = 'Copied'; });
  }
  paint();
});

document.addEventListener('keydown', (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.key === 'Escape' && opened()) one('.back')?.click();
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const links = all('.mail');
  const at = links.findIndex((link) => link.dataset.id === opened());
  const link = links[at < 0 ? 0 : at + step];
  link?.focus();
  link?.click();
});

window.addEventListener('popstate', () => show(location.href, false));
document.body.dataset.width = 'full';
document.body.dataset.scheme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
paint();
setInterval(paint, 30000);
if (one('#list')?.dataset.newest !== undefined || !one('#list')) follow();
