// Forms: parts that depend on a choice, presets of scopes, and one submission for each form.

export function setUpForms(root) {
  for (const part of root.querySelectorAll("[data-show-if]")) {
    const [name, value] = part.dataset.showIf.split("=");
    const control = part.closest("form").elements[name];
    const update = () => (part.hidden = control.value !== value);
    control.addEventListener("change", update);
    update();
  }
  for (const picker of root.querySelectorAll("[data-scopes]")) setUpScopes(picker);
  for (const form of root.querySelectorAll("form[method=post]:not([data-theme-form])")) {
    form.addEventListener("submit", () => {
      // After the browser has read the form: a disabled button is not submitted.
      setTimeout(() => form.querySelectorAll("button").forEach((button) => (button.disabled = true)));
    });
  }
  root.querySelector("[data-focus]")?.focus();
}

function setUpScopes(picker) {
  const boxes = [...picker.querySelectorAll("[name=scopes]")];
  const presets = [...picker.querySelectorAll("[name=preset]")];
  const apply = () => {
    const chosen = presets.find((preset) => preset.checked)?.dataset.preset?.split(" ");
    if (chosen) for (const box of boxes) box.checked = chosen.includes(box.value);
  };
  for (const preset of presets) {
    preset.addEventListener("change", () => {
      apply();
      if (preset.value === "custom") picker.querySelector("details").open = true;
    });
  }
  for (const box of boxes) {
    box.addEventListener("change", () => (presets.find((preset) => preset.value === "custom").checked = true));
  }
  apply();
}
