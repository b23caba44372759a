// Typesets formulas when the book is built: node typeset.cjs FOLDER_OF_MATHJAX
// stdin: JSON list of [TeX, is it displayed]; stdout: JSON {formulas: [HTML...], sheet: CSS}.
const { readFileSync } = require("fs");
const folder = require("path").resolve(process.argv[2]);

require(`${folder}/node-main.js`)
  .init({
    loader: { load: ["adaptors/liteDOM", "input/tex-full", "output/chtml", "a11y/assistive-mml"] },
    // adaptiveCSS would style the glyphs of these formulas alone; the book has one sheet.
    chtml: { adaptiveCSS: false, matchFontHeight: false, scale: 1.1, fontURL: "mathjax" },
    // A macro that does not exist is an error, not red text.
    tex: { packages: { "[-]": ["noundefined", "noerrors"] } },
  })
  .then((MathJax) => {
    const { adaptor } = MathJax.startup;
    const formulas = JSON.parse(readFileSync(0, "utf8")).map(([tex, display]) =>
      adaptor.outerHTML(MathJax.tex2chtml(tex, { display }))
    );
    const sheet = adaptor.textContent(MathJax.chtmlStylesheet());
    process.stdout.write(JSON.stringify({ formulas, sheet }));
  })
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
