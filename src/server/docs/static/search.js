// Search box in the header of every page. It searches /docs/search.json, which the browser fetches when the box is first used.

const box = document.getElementById("docs-search");
const input = box.querySelector("input");
const panel = box.querySelector(".results");
const status = box.querySelector("[role=status]");
const list = box.querySelector("ul");

const MOST = 40;
let fetched = null;

// `name` weighs more than `text`. All are in lower case, to be compared with the words.
const entry = (kind, url, label, name, text, detail) => ({
  kind,
  url,
  label,
  name: name.toLowerCase(),
  text: text.toLowerCase(),
  detail,
});

const load = () => {
  fetched ??= fetch("/docs/search.json")
    .then((response) => (response.ok ? response.json() : Promise.reject(response.status)))
    .then(({ guides, operations, errors }) => [
      ...guides.map((it) => {
        const label = it.section ? `${it.title}: ${it.section}` : it.title;
        return entry("Guide", it.url, label, label, it.text, it.text);
      }),
      ...operations.map((it) => {
        const label = `${it.method} ${it.path}`;
        return entry("Operation", it.url, label, `${label} ${it.summary}`, it.tag, it.summary);
      }),
      ...errors.map((it) => entry("Error", it.url, it.code, `${it.code} ${it.title}`, `${it.status}`, `${it.status} ${it.title}`)),
    ])
    .catch((error) => {
      fetched = null;
      throw error;
    });
  return fetched;
};

// Each word must occur. An entry that has all words in its name comes first, an exact label before the others.
const score = (entry, words, phrase) => {
  let total = entry.label.toLowerCase() === phrase ? 100 : 0;
  for (const word of words) {
    if (entry.name.includes(word)) total += entry.name.split(/[\s/:_.]+/).includes(word) ? 12 : 10;
    else if (entry.text.includes(word)) total += 1;
    else return 0;
  }
  return total;
};

const excerpt = ({ detail }, words) => {
  if (detail.length <= 160) return detail;
  const lower = detail.toLowerCase();
  const at = Math.max(0, Math.min(...words.map((word) => lower.indexOf(word)).filter((at) => at >= 0), lower.length) - 50);
  // From the start of a word; from the start of the text if no word occurs in it.
  const start = at === 0 || at >= lower.length - 50 ? 0 : detail.indexOf(" ", at) + 1;
  return `${start > 0 ? "… " : ""}${detail.slice(start, start + 150)} …`;
};

const item = (entry, words) => {
  const [row, link, kind, label, detail] = ["li", "a", "span", "b", "small"].map((name) => document.createElement(name));
  link.href = entry.url;
  kind.className = "kind";
  kind.textContent = entry.kind;
  label.textContent = entry.label;
  detail.textContent = excerpt(entry, words);
  link.append(kind, label, detail);
  row.append(link);
  return row;
};

const close = () => {
  panel.hidden = true;
};

const search = async () => {
  const phrase = input.value.trim().toLowerCase();
  if (!phrase) {
    list.replaceChildren();
    status.textContent = "";
    return close();
  }
  let entries;
  try {
    entries = await load();
  } catch {
    list.replaceChildren();
    status.textContent = "The search index failed to load. Try again.";
    panel.hidden = false;
    return;
  }
  if (phrase !== input.value.trim().toLowerCase()) return;
  const words = phrase.split(/\s+/);
  const found = entries
    .map((entry) => ({ entry, score: score(entry, words, phrase) }))
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score);
  list.replaceChildren(...found.slice(0, MOST).map(({ entry }) => item(entry, words)));
  const count = found.length === 1 ? "1 result" : `${found.length} results`;
  status.textContent = found.length > MOST ? `${count}, the first ${MOST} are shown` : count;
  panel.hidden = false;
};

box.addEventListener("keydown", (event) => {
  const links = [...list.querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  if (event.key === "Escape") {
    close();
    input.focus();
  } else if (event.key === "ArrowDown" && panel.hidden) {
    search();
  } else if (event.key === "ArrowDown" && links.length > 0) {
    links[Math.min(at + 1, links.length - 1)].focus();
  } else if (event.key === "ArrowUp" && at >= 0) {
    (at === 0 ? input : links[at - 1]).focus();
  } else if (event.key === "Enter" && event.target === input && links.length > 0 && !panel.hidden) {
    links[0].click();
  } else {
    return;
  }
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  input.focus();
});

document.addEventListener("click", (event) => {
  if (!box.contains(event.target) || event.target.closest(".results a")) close();
});
box.addEventListener("focusout", (event) => {
  if (event.relatedTarget && !box.contains(event.relatedTarget)) close();
});
// The text is searched when it changes; a failure is shown then.
input.addEventListener("focus", () => load().catch(() => {}));
input.addEventListener("click", search);
input.addEventListener("input", search);

// Without JavaScript, there is no box.
box.hidden = false;
