// Everything works without this script. It adds local times, keeps live parts current, and copies texts.
"use strict";

// Local times, on hover.
const addLocalTime = (time) => {
  const at = new Date(time.dateTime);
  if (!Number.isNaN(at.getTime())) time.title = `${at.toLocaleString()} local time`;
};
const addLocalTimes = (root) => root.querySelectorAll("time[datetime]").forEach(addLocalTime);
addLocalTimes(document);

// Live parts: an element with data-live names a stream of fragments. An event is named after the id of the element that it
// replaces the content of. An unchanged fragment is left alone, so that nothing jumps and a selection stays.
for (const root of document.querySelectorAll("[data-live]")) {
  const source = new EventSource(root.dataset.live);
  const shown = new Map();
  const show = (event) => {
    const part = document.getElementById(event.type.slice("part-".length));
    if (!part || shown.get(part) === event.data) return;
    shown.set(part, event.data);
    part.innerHTML = event.data;
    addLocalTimes(part);
  };
  for (const part of root.querySelectorAll("[data-part]")) source.addEventListener(`part-${part.id}`, show);
  // The server has nothing more to say, such as after a change has arrived everywhere.
  source.addEventListener("end", () => source.close());
  source.addEventListener("open", () => root.removeAttribute("data-lost"));
  source.addEventListener("error", () => root.setAttribute("data-lost", ""));
}

// Copy buttons appear only where they work.
for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}
