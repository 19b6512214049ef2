() => {
  // A link to a place in the note moves within the page. Gradio's <base> would make it another address, which reloads
  // the page as soon as the address has a query, as inside a Space.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('.sr a[href^="#sr-"]');
    if (!link) return;
    event.preventDefault();
    location.hash = link.getAttribute("href");
  });
}
