// Sliders: their code comes when one is near the screen, and their controls get names.
(function () {
  "use strict";
  const script = document.currentScript;
  const views = 'script[type="application/vnd.jupyter.widget-view+json"]';
  let asked = false;

  // 1.9 MB that most readers of a page do not need yet.
  function load() {
    if (asked) return;
    asked = true;
    // The library would ask MathJax 2 to typeset its labels, which are plain text.
    if (window.MathJax) window.MathJax.Hub = { Queue() {} };
    const library = document.createElement("script");
    library.src = new URL(script.dataset.embed, script.src);
    // It draws on "load", which a page usually has behind it by now.
    library.onload = () => {
      if (document.readyState === "complete") window.dispatchEvent(new Event("load"));
    };
    document.head.append(library);
  }

  // ipywidgets gives slider handles and play buttons no name that a screen reader could speak.
  function nameControls() {
    for (const handle of document.querySelectorAll(".seglab-slider .noUi-handle")) {
      const box = handle.closest(".widget-inline-hbox");
      const label = box.querySelector(".widget-label");
      const readout = box.querySelector(".widget-readout");
      if (label) handle.setAttribute("aria-label", label.textContent);
      if (readout) handle.setAttribute("aria-valuetext", readout.textContent);
    }
    for (const button of document.querySelectorAll(".seglab-slider .widget-play button")) {
      const stop = button.querySelector(".fa-stop");
      button.setAttribute("aria-label", stop ? "back to the start" : "play or pause");
    }
  }

  const near = new IntersectionObserver(
    (entries) => entries.some((entry) => entry.isIntersecting) && load(),
    { rootMargin: "1500px" }
  );
  for (const view of document.querySelectorAll(views)) near.observe(view.parentElement);
  matchMedia("print").addEventListener("change", load);
  window.addEventListener("beforeprint", load);

  const watch = { childList: true, characterData: true, subtree: true };
  new MutationObserver(nameControls).observe(document.querySelector("article"), watch);
})();
