// Switches the theme without loading the page.

export function setUpTheme() {
  const form = document.querySelector("[data-theme-form]");
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    const theme = event.submitter.value;
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    for (const button of form.querySelectorAll("button")) {
      button.disabled = false;
      button.setAttribute("aria-pressed", String(button === event.submitter));
    }
    const body = new URLSearchParams({ theme, return: location.pathname });
    fetch(form.action, { method: "POST", body, headers: { "hx-request": "true" } });
  });
}
