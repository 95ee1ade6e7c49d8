// While something is in progress, reads its parts of the page again: steps, percentages and attempts are no events.

import { readParts } from "./live.js";

const EVERY = 1500;
const AFTER_FAILURE = 10000;
let timer;

const partsInProgress = () => [...document.querySelectorAll("[data-progress]")].map((part) => part.id);

export function setUpProgress(setUp) {
  clearTimeout(timer);
  if (partsInProgress().length) timer = setTimeout(() => readAgain(setUp), EVERY);
}

async function readAgain(setUp) {
  const isRead = document.hidden || (await readParts(partsInProgress(), setUp).catch(() => ({ ok: false }))).ok;
  clearTimeout(timer);
  if (partsInProgress().length) timer = setTimeout(() => readAgain(setUp), isRead ? EVERY : AFTER_FAILURE);
}
