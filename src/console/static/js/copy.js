// Buttons that copy a text, and fields that select their text.

export function setUpCopy(root) {
  for (const button of root.querySelectorAll("[data-copy], [data-copy-from]")) {
    if (button.dataset.ready) continue;
    button.dataset.ready = "1";
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copyFrom);
      const text = button.dataset.copy ?? source.value ?? source.textContent;
      const label = button.textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        // Without permission, the person copies the selection.
        if (source?.select) source.select();
        button.textContent = "Press Ctrl C";
      }
      announce(button.textContent);
      setTimeout(() => (button.textContent = label), 2000);
    });
  }
  for (const field of root.querySelectorAll("[data-select]")) field.addEventListener("focus", () => field.select());
}

// Tells screen readers what happened.
export function announce(text) {
  let region = document.getElementById("announcer");
  if (!region) {
    region = document.createElement("div");
    region.id = "announcer";
    region.className = "sr";
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  region.textContent = text;
}
