// Keeps parts of the page current. The page has one stream of events for all of them. When an event concerns a part, the
// page is read again and the part replaced. `fetch` instead of EventSource, which does not tell a server that is restarting
// from a session that has ended.

const QUIET = 250;
// The server sends something every 15 seconds. After three times as long, the connection is dead.
const SILENCE = 45000;
const WAITS = [1000, 2000, 5000, 10000, 30000];

export function setUpLive(setUp) {
  const first = document.querySelector("[data-live]");
  if (first) new Stream(first, setUp).connect();
}

class Stream {
  constructor(first, setUp) {
    this.url = first.dataset.live;
    this.setUp = setUp;
    // All parts were made at the same time, so the newest event that one of them shows is in all.
    const shown = [...document.querySelectorAll("[data-live-after]")].map((part) => part.dataset.liveAfter);
    this.last = shown.sort((a, b) => a.length - b.length || (a < b ? -1 : 1)).pop() ?? null;
    this.isPaused = false;
    this.missed = 0;
    this.failures = 0;
    this.stale = new Set();
    this.button = document.querySelector("[data-live-pause]");
    this.button?.addEventListener("click", () => this.pause(!this.isPaused));
    // Browsers open few connections to one server. A tab that nobody sees leaves its connection to others.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.disconnect() : this.connect()));
    addEventListener("pagehide", () => this.disconnect());
  }

  async connect() {
    if (this.abort || this.hasEnded || document.hidden) return;
    clearTimeout(this.retry);
    const abort = (this.abort = new AbortController());
    try {
      const headers = this.last ? { "last-event-id": this.last } : {};
      const answer = await fetch(this.url, { headers, signal: abort.signal, redirect: "manual" });
      const isStream = answer.ok && answer.headers.get("content-type")?.startsWith("text/event-stream");
      if (!isStream) {
        // The stream cannot resume that far back: the page is read anew, and the stream begins at its end.
        if (answer.status === 410) this.last = null;
        if (answer.type === "opaqueredirect" || (answer.ok && !isStream) || answer.status === 401) return this.end();
        throw new Error(`${answer.status}`);
      }
      const isGap = !this.last;
      await this.read(answer.body, isGap);
    } catch (error) {
      if (abort.signal.aborted) return;
    }
    if (this.abort === abort) this.abort = null;
    this.reconnect();
  }

  disconnect() {
    clearTimeout(this.retry);
    this.abort?.abort();
    this.abort = null;
  }

  reconnect() {
    if (this.hasEnded || document.hidden) return;
    this.say("Reconnecting…");
    const wait = WAITS[Math.min(this.failures, WAITS.length - 1)];
    this.failures += 1;
    // Not all pages at the same moment.
    this.retry = setTimeout(() => this.connect(), wait * (0.5 + Math.random()));
  }

  async read(body, isGap) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let isOpen = false;
    for (;;) {
      const silence = setTimeout(() => reader.cancel(), SILENCE);
      const { value, done } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      rest += value;
      const messages = rest.split("\n\n");
      rest = messages.pop();
      for (const message of messages) {
        if (this.take(message) === "end") return;
        if (isOpen) continue;
        isOpen = true;
        this.failures = 0;
        this.say(this.isPaused ? "Paused" : "Live");
        if (!this.isPaused) this.refresh([]);
        // What happened between the loading of the page and the beginning of the stream.
        if (isGap) this.refresh(document.querySelectorAll("[data-live]"));
      }
    }
  }

  take(message) {
    const field = (name) => message.match(new RegExp(`^${name}: ?(.*)$`, "m"))?.[1];
    const id = field("id");
    const type = field("event");
    if (type === "error") {
      const { status } = JSON.parse(field("data") ?? "{}");
      // Another kind of problem is over soon.
      if ([401, 403, 404].includes(status)) this.end();
      return "end";
    }
    if (id) this.last = id;
    if (!type) return;
    const { subject } = JSON.parse(field("data"));
    this.refresh([...document.querySelectorAll("[data-live]")].filter((part) => concerns(part, type, subject)));
  }

  refresh(parts) {
    for (const { id } of parts) this.stale.add(id);
    if (!this.stale.size) return;
    if (this.isPaused) {
      this.missed += 1;
      this.say(`Paused, ${this.missed} new`);
      return;
    }
    // Several events at once are one refresh.
    this.timer ??= setTimeout(() => this.load(), QUIET);
  }

  async load() {
    const stale = [...this.stale];
    this.stale.clear();
    try {
      const answer = await readParts(stale, this.setUp);
      if (answer.type === "opaqueredirect") return this.end();
    } catch {
      // The server is away. When the stream is back, the parts are read.
      for (const id of stale) this.stale.add(id);
      return;
    } finally {
      this.timer = null;
    }
    if (this.stale.size) this.refresh([]);
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    this.button.textContent = isPaused ? "Resume" : "Pause";
    this.button.setAttribute("aria-pressed", String(isPaused));
    if (!isPaused) this.missed = 0;
    this.say(isPaused ? "Paused" : this.abort ? "Live" : "Reconnecting…");
    if (!isPaused) this.refresh([]);
  }

  end() {
    this.hasEnded = true;
    this.disconnect();
    this.say("Your session has ended");
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = "Sign in again";
    document.querySelector("[data-live-state]")?.append(". ", link);
  }

  say(text) {
    const state = document.querySelector("[data-live-state]");
    if (!state || state.textContent === text) return;
    state.textContent = text;
    state.dataset.liveState = text === "Live" ? "live" : "waiting";
  }
}

function concerns(part, type, subject) {
  const list = (text) => (text ? text.split(",") : []);
  const types = list(part.dataset.liveTypes);
  const subjects = list(part.dataset.liveSubjects);
  const isType = ({ length }) => !length || types.some((known) => (known.endsWith(".*") ? type.startsWith(known.slice(0, -1)) : known === type));
  return isType(types) && (!subjects.length || subjects.includes(subject));
}

// Reads the page again, and replaces its parts with these IDs. Returns the answer of the server.
export async function readParts(ids, setUp) {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
  if (!answer.ok) return answer;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ids) replacePart(id, page, setUp);
  return answer;
}

// Keeps the focus, and what is open.
function replacePart(id, page, setUp) {
  const old = document.getElementById(id);
  const fresh = page.getElementById(id);
  if (!old || !fresh || old.outerHTML === fresh.outerHTML) return;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  // Somebody is typing there.
  if (focused?.matches("input, textarea, select")) return;
  const place = focused && [...old.querySelectorAll("a, button, summary")].indexOf(focused);
  const open = [...old.querySelectorAll("details[open]")].map((details) => details.id).filter(Boolean);
  const next = document.importNode(fresh, true);
  for (const id of open) next.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
  old.replaceWith(next);
  setUp(next);
  window.htmx?.process(next);
  if (!focused) return;
  const same = focused.id ? document.getElementById(focused.id) : null;
  const byLink = [...next.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused.getAttribute("href"));
  (same ?? byLink ?? next.querySelectorAll("a, button, summary")[place])?.focus({ preventScroll: true });
}
