// Keeps one's place in the note, and moves it: the next and the previous disagreement in the order of the list, by button
// or key (n and p, j and k).
// It reads classes and ids alone, moves no focus, asks the server nothing and leaves the address as it is.
(() => {
  if (window.stillroomStepping) return; // Streamlit runs this again whenever the page is drawn
  window.stillroomStepping = true;
  const KEYS = { n: 1, j: 1, p: -1, k: -1 };
  const TYPING = "input, textarea, select, [contenteditable=true], [role=combobox], [role=listbox], [role=slider]";
  const links = () => [...document.querySelectorAll(".sr-rail a.sr-jump")];
  const current = () => links().findIndex((link) => link.closest("li").ariaCurrent === "true");
  const nearest = { block: "nearest", inline: "nearest" };

  const mark = (link) => {
    const item = link.closest("li"), region = link.hash.replace(/\d+$/, "");
    document.querySelectorAll(".sr-list li[aria-current]").forEach((each) => each.removeAttribute("aria-current"));
    document.querySelectorAll(".sr-here").forEach((each) => each.classList.remove("sr-here"));
    item.ariaCurrent = "true";
    document.querySelectorAll(`[id^="${region.slice(1)}"]`).forEach((each) => each.classList.add("sr-here"));
    const at = document.querySelector(".sr-at");
    if (at) at.textContent = `${current() + 1} of ${links().length}`;
  };

  const step = (by) => {
    const all = links(), now = current();
    const next = all[now < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(now + by, 0), all.length - 1)];
    if (!next) return false;
    mark(next);
    // The list first: it stands above the panes on a phone, and the place in the note has the last word.
    const list = next.closest(".sr-rail"), item = next.closest("li");
    if (item.offsetTop < list.scrollTop || item.offsetTop + item.offsetHeight > list.scrollTop + list.clientHeight)
      list.scrollTop = item.offsetTop - list.clientHeight / 3;
    document.getElementById(next.hash.slice(1))?.scrollIntoView(nearest);
    return true;
  };

  // A filter or a context length draws the panes anew: the same note stays where it was read.
  let place = { top: 0, lines: 0 };
  const lines = (panes) => panes.querySelectorAll(".sr-line").length / panes.children.length;
  document.addEventListener("scroll", ({ target }) => {
    if (target.matches?.(".sr-panes")) place = { top: target.scrollTop, lines: lines(target) };
  }, true);
  new MutationObserver(() => {
    const panes = document.querySelector(".sr-panes:not([data-seen])");
    if (!panes) return;
    panes.dataset.seen = "";
    const { top } = place, keep = () => { if (panes.scrollTop !== top) panes.scrollTop = top; };
    if (lines(panes) !== place.lines) return;
    keep();
    requestAnimationFrame(keep); // where their style comes after them, there was nothing to scroll before
  }).observe(document.body, { childList: true, subtree: true });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest?.(TYPING) || !(event.key in KEYS)) return;
    if (step(KEYS[event.key])) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".sr-step"), link = event.target.closest?.(".sr-list a");
    if (button) step(button.matches(":last-child") ? 1 : -1);
    else if (link) mark(link.closest("li").querySelector(".sr-jump"));
  });
})();
