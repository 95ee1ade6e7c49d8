// Command palette: Ctrl-K or ⌘K. It goes to a page, starts an action, and opens the object with a pasted ID.

// Pages of the navigation, actions that the server lists for the person, and projects.
function pages() {
  const found = [];
  const add = (links, kind) => {
    for (const link of links) {
      const label = link.textContent.trim();
      const href = link.getAttribute("href");
      if (!found.some((other) => other.href === href)) found.push({ label, kind, href, go: () => location.assign(href) });
    }
  };
  add(document.querySelectorAll(".side a"), "Page");
  add(document.getElementById("commands")?.content.querySelectorAll("a") ?? [], "Action");
  add(document.querySelectorAll(".switcher li a"), "Project");
  add(document.querySelectorAll(".account .popup a"), "Page");
  return found;
}

function matches(text) {
  const words = text.split(/\s+/).filter(Boolean);
  const found = pages().filter(({ label }) => words.every((word) => label.toLowerCase().includes(word)));
  // What begins with the text comes first.
  found.sort((a, b) => b.label.toLowerCase().startsWith(text) - a.label.toLowerCase().startsWith(text));
  if (/^[a-z]+_[0-9a-f]+$/.test(text)) found.unshift({ label: `Open ${text}`, kind: "ID", go: () => openId(text) });
  return found.slice(0, 20);
}

function openId(id) {
  const form = document.querySelector("form.find");
  form.elements.q.value = id;
  form.submit();
}

function build() {
  const palette = document.createElement("dialog");
  palette.className = "palette";
  palette.setAttribute("aria-label", "Go to");
  palette.innerHTML =
    '<input type="text" role="combobox" aria-label="Go to a page, start an action, or paste an ID" placeholder="Go to a page, start an action, or paste an ID" aria-expanded="true" aria-controls="palette-list" aria-autocomplete="list" autocomplete="off" spellcheck="false"><ul role="listbox" id="palette-list" aria-label="Results"></ul><p class="muted" role="status"></p>';
  document.body.append(palette);
  const input = palette.querySelector("input");
  const list = palette.querySelector("ul");
  const status = palette.querySelector("p");
  let results = [];
  let at = 0;
  const show = () => {
    list.replaceChildren(
      ...results.map((result, index) => {
        const item = document.createElement("li");
        item.id = `palette-${index}`;
        item.setAttribute("role", "option");
        item.setAttribute("aria-selected", String(index === at));
        const label = document.createElement("span");
        label.className = "clip";
        label.textContent = result.label;
        const kind = document.createElement("small");
        kind.textContent = result.kind;
        item.append(label, kind);
        item.addEventListener("click", () => pick(index));
        return item;
      }),
    );
    list.hidden = !results.length;
    status.hidden = Boolean(results.length);
    status.textContent = results.length ? "" : "Nothing found. An ID must be complete, such as key_7d1.";
    if (results.length) input.setAttribute("aria-activedescendant", `palette-${at}`);
    else input.removeAttribute("aria-activedescendant");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  const pick = (index) => {
    const result = results[index];
    if (!result) return;
    palette.close();
    result.go();
  };
  const search = () => {
    results = matches(input.value.trim().toLowerCase());
    at = 0;
    show();
  };
  const moves = { ArrowDown: 1, ArrowUp: -1 };
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key in moves) {
      event.preventDefault();
      at = (at + moves[event.key] + results.length) % Math.max(results.length, 1);
      show();
    } else if (event.key === "Enter") {
      event.preventDefault();
      pick(at);
    }
  });
  palette.addEventListener("click", (event) => event.target === palette && palette.close());
  palette.addEventListener("close", () => (input.value = ""));
  return () => {
    if (palette.open) return;
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
      open();
    }
  });
}
