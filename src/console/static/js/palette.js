// Command palette: Ctrl-K or ⌘K. It goes to a page, and opens the object with a pasted ID.

let palette;

function pages() {
  const links = document.querySelectorAll(".side a, .switcher a, a[data-command]");
  return [...links].map((link) => ({
    label: link.textContent.trim(),
    kind: link.closest(".switcher") ? "Project" : "Page",
    go: () => link.click(),
  }));
}

function matches(words) {
  const found = pages().filter((page) => words.every((word) => page.label.toLowerCase().includes(word)));
  const id = words.length === 1 && /^[a-z]+_[0-9a-f]+$/.test(words[0]) ? words[0] : null;
  if (id) found.unshift({ label: `Open ${id}`, kind: "ID", go: () => openId(id) });
  return found.slice(0, 9);
}

function openId(id) {
  const form = document.querySelector("form.find");
  form.elements.q.value = id;
  form.submit();
}

function build() {
  palette = document.createElement("dialog");
  palette.className = "palette";
  palette.setAttribute("aria-label", "Go to");
  palette.innerHTML =
    '<input type="text" role="combobox" aria-label="Go to a page, or paste an ID" placeholder="Go to a page, or paste an ID" aria-expanded="true" aria-controls="palette-list" autocomplete="off" spellcheck="false"><ul role="listbox" id="palette-list" aria-label="Results"></ul>';
  document.body.append(palette);
  const input = palette.querySelector("input");
  const list = palette.querySelector("ul");
  let results = [];
  let at = 0;
  const show = () => {
    list.replaceChildren(
      ...results.map((result, index) => {
        const item = document.createElement("li");
        item.id = `palette-${index}`;
        item.setAttribute("role", "option");
        item.setAttribute("aria-selected", String(index === at));
        const kind = document.createElement("small");
        kind.textContent = result.kind;
        item.append(result.label, kind);
        item.addEventListener("click", () => pick(index));
        return item;
      }),
    );
    if (results.length) input.setAttribute("aria-activedescendant", `palette-${at}`);
    else input.removeAttribute("aria-activedescendant");
  };
  const pick = (index) => {
    palette.close();
    results[index]?.go();
  };
  const search = () => {
    results = matches(input.value.trim().toLowerCase().split(/\s+/).filter(Boolean));
    at = 0;
    show();
  };
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      at = (at + (event.key === "ArrowDown" ? 1 : results.length - 1)) % Math.max(results.length, 1);
      show();
    } else if (event.key === "Enter") {
      event.preventDefault();
      pick(at);
    }
  });
  palette.addEventListener("click", (event) => event.target === palette && palette.close());
  palette.addEventListener("close", () => (input.value = ""));
  return () => {
    palette.showModal();
    search();
    input.focus();
  };
}

export function setUpPalette() {
  if (!document.querySelector(".side")) return;
  const open = build();
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!palette.open) open();
    }
  });
}
