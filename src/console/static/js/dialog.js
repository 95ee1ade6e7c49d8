// Opens linked pages in a dialog. Without this, the links lead to the pages.

const dialog = document.getElementById("dialog");
const dialogBody = document.getElementById("dialog-body");

export function setUpDialogs(root) {
  if (!dialog?.showModal || !window.htmx) return;
  for (const link of root.querySelectorAll("a[data-dialog]:not([hx-get])")) {
    link.setAttribute("hx-get", link.getAttribute("href"));
    link.setAttribute("hx-target", "#dialog-body");
    link.setAttribute("hx-select", "#panel > *");
    link.setAttribute("hx-swap", "innerHTML");
    link.setAttribute("aria-haspopup", "dialog");
    window.htmx.process(link);
  }
}

if (dialog && dialogBody) {
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== dialogBody) return;
    for (const form of dialogBody.querySelectorAll("form[method=post]")) {
      form.setAttribute("hx-post", form.getAttribute("action"));
      form.setAttribute("hx-target", "#dialog-body");
      form.setAttribute("hx-select", "#panel > *");
      form.setAttribute("hx-swap", "innerHTML");
      window.htmx.process(form);
    }
    if (!dialog.open) dialog.showModal();
    dialogBody.querySelector("[data-focus], [autofocus], input:not([type=hidden]), select, .button")?.focus();
  });
  dialogBody.addEventListener("click", (event) => {
    if (!event.target.closest("[data-close]")) return;
    event.preventDefault();
    dialog.close();
  });
  dialog.addEventListener("close", () => {
    // The page behind may show an older state.
    const changed = dialogBody.querySelector("[data-secret]");
    dialogBody.replaceChildren();
    if (changed) location.reload();
  });
}
