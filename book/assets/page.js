// A formula wider than the screen scrolls in its box, so the keyboard must reach that box. The
// theme sees to code and outputs in the same way.
(function () {
  "use strict";
  const boxes = [...document.querySelectorAll("article div.math")];
  function mark() {
    // All reading before all writing: the page is laid out once.
    const wide = boxes.map((box) => box.scrollWidth > box.clientWidth);
    boxes.forEach((box, k) => {
      if (wide[k]) box.tabIndex = 0;
      else if (box.hasAttribute("tabindex")) box.removeAttribute("tabindex");
    });
  }
  if (boxes.length) {
    new ResizeObserver(mark).observe(document.querySelector("article"));
    document.fonts.ready.then(mark);
  }
})();
