// Tells the page which place of the note a person asks about: by a click on a finding, by "Why" in the table of findings,
// or by the button that appears beside selected words. It sends the number of the pane and offsets, never text. Until it
// listens the style sheet hides "Why".
export default function ({ parentElement, setTriggerValue }) {
  const button = parentElement.querySelector("button"), listeners = new AbortController();
  const PANE = ":is(.sr-results, .sr-why) .sr-pane"; // findings, or an explanation
  const panes = () => [...document.querySelectorAll(PANE)];
  let selected = null;

  // The number of characters of the note, in code points, before a place in a pane.
  const before = (pane, range) => {
    const start = document.createRange();
    start.setStart(pane, 0);
    start.setEnd(range.startContainer, range.startOffset);
    return length(start);
  };
  const length = (range) => {
    const copy = document.createElement("div");
    copy.append(range.cloneContents());
    copy.querySelectorAll(".sr-chip, .sr-head").forEach((each) => each.remove());
    return [...copy.textContent].length;
  };
  const place = (pane, range) => {
    const start = before(pane, range);
    return { pane: panes().indexOf(pane), start, end: start + length(range) };
  };
  const ask = (asked) => {
    document.getSelection().removeAllRanges(); // or the button would come back with the next key
    button.hidden = true;
    setTriggerValue("place", asked);
  };

  const select = () => {
    const selection = document.getSelection();
    const range = selection.rangeCount && !selection.isCollapsed ? selection.getRangeAt(0) : null;
    const pane = range?.startContainer.parentElement?.closest(".sr-line")?.closest(PANE);
    selected = pane?.contains(range.endContainer) ? place(pane, range) : null;
    button.hidden = !selected;
    if (!selected) return;
    const box = range.getBoundingClientRect();
    button.style.left = `${Math.min(Math.max(box.left, 8), innerWidth - button.offsetWidth - 8)}px`;
    button.style.top = `${Math.min(box.bottom + 6, innerHeight - button.offsetHeight - 8)}px`;
  };

  const click = ({ target }) => {
    if (target === button) return selected && ask(selected);
    const link = target.closest?.(".sr-ask")?.closest("tr").querySelector(".sr-jump");
    if (link) {
      const [start, pane] = link.hash.match(/\d+/g).map(Number);
      return ask({ pane, start, end: start + 1 });
    }
    const part = target.closest?.("mark.sr-span, .sr-gap"), pane = part?.closest(PANE);
    if (!pane || !document.getSelection().isCollapsed) return;
    const range = document.createRange();
    range.selectNodeContents(part);
    ask(place(pane, range));
  };

  const options = { signal: listeners.signal };
  document.addEventListener("click", click, options);
  for (const name of ["mouseup", "keyup", "touchend"]) document.addEventListener(name, () => setTimeout(select), options);
  button.dataset.listens = "";
  return () => listeners.abort();
}
