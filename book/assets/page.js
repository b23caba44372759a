// A formula wider than the screen scrolls in its box, so the keyboard must reach that box. The
// theme sees to code and outputs in the same way.
(function () {
  "use strict";
  function mark() {
    for (const box of document.querySelectorAll("article div.math")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }
  const article = document.querySelector("article");
  if (article) new ResizeObserver(mark).observe(article);
  document.fonts.ready.then(mark);
})();
