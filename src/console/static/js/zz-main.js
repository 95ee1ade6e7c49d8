// Starts everything. Pages work without it.

import { setUpCopy } from "./copy.js";
import { setUpDialogs } from "./dialog.js";
import { setUpForms } from "./form.js";
import { setUpLive } from "./live.js";
import { setUpPairs } from "./pairs.js";
import { setUpPalette } from "./palette.js";
import { setUpProgress } from "./progress.js";
import { setUpSession } from "./session.js";
import { setUpTheme } from "./theme.js";

function setUp(root) {
  setUpCopy(root);
  setUpDialogs(root);
  setUpForms(root);
  setUpPairs(root);
  setUpProgress(setUp);
}

document.documentElement.classList.add("has-js");
// The response to a form shows another address, so that a reload does not submit the form again.
const { shownPath } = document.body.dataset;
if (shownPath) history.replaceState(null, "", shownPath);

setUp(document);
setUpPalette();
setUpSession();
setUpTheme();
setUpLive(setUp);
document.body.addEventListener("htmx:afterSwap", (event) => setUp(event.detail.target));

// A wide screen shows the navigation, a narrow one a menu.
const menu = document.querySelector(".side-menu");
const isWide = matchMedia("(min-width: 900px)");
const fold = () => menu && (menu.open = isWide.matches);
isWide.addEventListener("change", fold);
fold();

// Menus close with Escape and with a click outside.
const closeMenus = (except) => {
  for (const open of document.querySelectorAll("details.menu[open]")) if (open !== except) open.open = false;
};
document.addEventListener("click", (event) => closeMenus(event.target.closest("details.menu")));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  document.querySelector("details.menu[open] summary")?.focus();
  closeMenus(null);
});

// The browser may keep a page to show it again. A secret must not be in it.
addEventListener("pagehide", () => {
  for (const secret of document.querySelectorAll("[data-secret]")) secret.remove();
});
