// While an operation is in progress, reads its part of the page again: steps and percentages are no events.

const EVERY = 1500;
const AFTER_FAILURE = 10000;
let timer;

export function setUpProgress(setUp) {
  clearTimeout(timer);
  if (document.querySelector("[data-progress]")) timer = setTimeout(() => refresh(setUp), EVERY);
}

async function refresh(setUp) {
  const part = document.querySelector("[data-progress]");
  const isFresh = part && (document.hidden || (await replace(part, setUp).catch(() => false)));
  clearTimeout(timer);
  if (document.querySelector("[data-progress]")) timer = setTimeout(() => refresh(setUp), isFresh ? EVERY : AFTER_FAILURE);
}

async function replace(part, setUp) {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
  if (!answer.ok) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const old = document.getElementById(part.id);
  const found = page.getElementById(part.id);
  if (!old || !found) return false;
  const fresh = document.importNode(found, true);
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  old.replaceWith(fresh);
  setUp(fresh);
  if (focused) [...fresh.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
  return true;
}
