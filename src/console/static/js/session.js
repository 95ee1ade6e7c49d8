// Warns before the session ends: after a time without requests, or at its end.

export function setUpSession() {
  const { sessionSeconds, sessionIdle } = document.body.dataset;
  if (!sessionSeconds) return;
  const warning = 15 * 60;
  // Timers take at most 24 days, and a page that is open for longer has made no request.
  setTimeout(() => warn(sessionIdle === "true"), Math.max(0, Number(sessionSeconds) - warning) * 1000);
}

function warn(isIdle) {
  const notice = document.createElement("div");
  notice.className = "notice warn session";
  notice.setAttribute("role", "alert");
  const text = document.createElement("p");
  text.textContent = isIdle
    ? "Your session ends in 15 minutes, because nothing has happened for a while."
    : "Your session ends in 15 minutes. After that, sign in again; what you type in a form is kept.";
  notice.append(text);
  if (isIdle) {
    const stay = document.createElement("button");
    stay.className = "button";
    stay.textContent = "Stay signed in";
    stay.addEventListener("click", async () => {
      const answer = await fetch("/console/go", { redirect: "manual" });
      if (answer.ok) notice.remove();
      if (answer.ok) setUpSession();
    });
    notice.append(stay);
  }
  document.getElementById("main")?.prepend(notice);
}
