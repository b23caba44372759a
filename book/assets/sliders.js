// ipywidgets gives slider handles and play buttons no name that a screen reader could speak.
(function () {
  "use strict";

  // The theme's Font Awesome would replace the icons that the play button goes on to switch:
  // let it draw the page's own icons now, and watch for no others.
  if (window.FontAwesome) {
    window.FontAwesome.noAuto();
    window.FontAwesome.dom.i2svg();
  } else {
    window.FontAwesomeConfig = { observeMutations: false };
  }

  function nameControls() {
    document.querySelectorAll(".seglab-slider .noUi-handle").forEach(function (handle) {
      var box = handle.closest(".widget-inline-hbox");
      var label = box.querySelector(".widget-label");
      var readout = box.querySelector(".widget-readout");
      if (label) handle.setAttribute("aria-label", label.textContent);
      if (readout) handle.setAttribute("aria-valuetext", readout.textContent);
    });
    document.querySelectorAll(".seglab-slider .widget-play button").forEach(function (button) {
      var stop = button.querySelector(".fa-stop");
      button.setAttribute("aria-label", stop ? "back to the start" : "play or pause");
    });
  }

  function watch() {
    nameControls();
    new MutationObserver(nameControls).observe(document.body, {
      childList: true,
      characterData: true,
      subtree: true,
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watch);
  else watch();
})();
