// The sliders' library asks MathJax 2 to typeset their labels; this book has MathJax 3.
(function () {
  function install() {
    window.MathJax = window.MathJax || {};
    window.MathJax.Hub = {
      // call is ["Typeset", MathJax.Hub, element]; before MathJax is ready there is nothing to
      // do, because its first act is to typeset the whole page.
      Queue: function (call) {
        if (window.MathJax.typesetPromise) {
          window.MathJax.typesetPromise([call[2]]);
        }
      },
    };
  }
  install();
  // Loading replaces window.MathJax.
  var script = document.querySelector('script[src*="mathjax/"], script[src*="mathjax@"]');
  if (script) {
    script.addEventListener("load", install);
  }
})();
