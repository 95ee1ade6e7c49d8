// While something is in progress, reads its parts of the page again: steps, percentages and attempts are no events.

import { replacePart } from "./live.js";

const EVERY = 1500;
const AFTER_FAILURE = 10000;
let timer;

export function setUpProgress(setUp) {
  clearTimeout(timer);
  if (document.querySelector("[data-progress]")) timer = setTimeout(() => readAgain(setUp), EVERY);
}

async function readAgain(setUp) {
  const isRead = document.hidden || (await read(setUp).catch(() => false));
  clearTimeout(timer);
  if (document.querySelector("[data-progress]")) timer = setTimeout(() => readAgain(setUp), isRead ? EVERY : AFTER_FAILURE);
}

async function read(setUp) {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
  if (!answer.ok) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const { id } of document.querySelectorAll("[data-progress]")) replacePart(id, page, setUp);
  return true;
}
