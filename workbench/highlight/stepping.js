// Keeps one's place in the note, and moves it: to the next and the previous item of the list beside it, disagreement or
// finding, by button or key (n and p, j and k). It also sorts the table of findings.
// It reads classes and ids alone, moves no focus, asks the server nothing and leaves the address as it is.
(() => {
  if (window.stillroomStepping) return; // Streamlit runs this again whenever the page is drawn
  window.stillroomStepping = true;
  const KEYS = { n: 1, j: 1, p: -1, k: -1 };
  const TYPING = "input, textarea, select, [contenteditable=true], [role=combobox], [role=listbox], [role=slider]";
  const links = () => [...document.querySelectorAll(".sr-rail a.sr-jump")];
  const ITEM = "li, tr";
  const current = () => links().findIndex((link) => link.closest(ITEM).ariaCurrent === "true");
  const nearest = { block: "nearest", inline: "nearest" };

  const mark = (link) => {
    const item = link.closest(ITEM), region = link.hash.replace(/\d+$/, "");
    document.querySelectorAll(".sr-rail [aria-current]").forEach((each) => each.removeAttribute("aria-current"));
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
    const list = next.closest(".sr-rail"), item = next.closest(ITEM).getBoundingClientRect(), box = list.getBoundingClientRect();
    if (item.top < box.top + 32 || item.bottom > box.bottom) list.scrollTop += item.top - box.top - list.clientHeight / 3;
    document.getElementById(next.hash.slice(1))?.scrollIntoView(nearest);
    return true;
  };

  // Within each heading the rows change their order; a second click on a column turns it round.
  const sort = (button) => {
    const head = button.closest("th"), column = head.cellIndex, down = head.ariaSort === "ascending";
    head.parentElement.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
    head.ariaSort = down ? "descending" : "ascending";
    const text = (row) => row.cells[column].textContent.trim();
    const number = (row) => parseFloat(text(row).replace(/[<>,]/g, "").replace(/^–$/, "-1"));
    const order = (a, b) => (column ? number(a) - number(b) : text(a).localeCompare(text(b)));
    for (const body of head.closest("table").tBodies) {
      const rows = [...body.rows].slice(1).sort(order);
      body.append(...(down ? rows.reverse() : rows));
    }
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
    const button = event.target.closest?.(".sr-step, .sr-sort"), link = event.target.closest?.(".sr-rail :is(li, td) a");
    if (button?.matches(".sr-sort")) sort(button);
    else if (button) step(button.matches(":last-child") ? 1 : -1);
    else if (link) mark(link);
  });
})();
